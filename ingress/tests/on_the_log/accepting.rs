//! 250 means durable; what is refused, and what the client keeps.

use eventlog::{NewRecord, bodies};
use schemas::Topic;
use schemas::topics::INLINE_BODY_BYTES;

use crate::client::Client;
use crate::node::{Node, SILENCE, SPAM, Setup, accepted, open_log};

#[tokio::test(flavor = "multi_thread")]
async fn a_250_names_a_message_that_is_there_after_the_log_was_opened_again() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let reply = client.deliver("Subject: x\r\n\r\n..two dots\r\n.. alone").await;
    let id = reply.strip_prefix("250 2.0.0 queued as ").expect("it is queued").to_owned();
    drop(client);
    let directory = node.directory.clone();
    node.stopped().await.close().await;
    let log = open_log(directory.path());
    let all = accepted(&log).await;
    let (envelope, message) = &all[0];
    assert_eq!((all.len(), envelope.id.to_string()), (1, id));
    assert_eq!(&message[..], b"Subject: x\r\n\r\n.two dots\r\n. alone\r\n");
    assert_eq!(envelope.size_bytes, message.len() as u64);
    assert_eq!(envelope.user.as_str(), "127.0.0.1/32");
    assert_eq!(envelope.client.protocol, "ESMTP");
    assert_eq!(envelope.client.helo, "client.example");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_stands_in_the_reply_and_without_one_it_is_250() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    assert!(client.deliver(&format!("Subject: {SPAM}")).await.starts_with("550 5.7.1 Blocked as spam, ref "));
    for _ in 0..3 {
        let began = std::time::Instant::now();
        assert!(client.deliver(&format!("Subject: {SILENCE}")).await.starts_with("250 2.0.0 queued as "));
        assert!(began.elapsed().as_millis() >= 700, "it waited for the verdict");
    }
    // After three in a row nobody waits, and nobody is announced as waiting.
    assert!(client.deliver(&format!("Subject: {SPAM}")).await.starts_with("250 2.0.0 queued as "));
    let mut all = accepted(&node.log).await;
    all.sort_by_key(|(envelope, _)| envelope.accepted_at);
    let waiting: Vec<bool> = all.iter().map(|(envelope, _)| envelope.reply_partition.is_some()).collect();
    assert_eq!(waiting, [true, true, true, true, false]);
}

fn large_message() -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    for number in 0.. {
        if message.len() >= 5 << 20 {
            return message;
        }
        let dots = if number % 7 == 0 { "." } else { "" };
        message.extend_from_slice(
            format!("{dots}line {number} \0 \u{fc} {}\r\n", "x".repeat(number % 80)).as_bytes(),
        );
    }
    unreachable!("the loop ends by its return")
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_arrive_byte_for_byte_by_data() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.open().await;
    client.say("DATA", "354").await;
    let message = large_message();
    let mut stuffed = Vec::with_capacity(message.len() + 8192);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line[0] == b'.' {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    client.send(&stuffed).await;
    client.say(".", "250 2.0.0 queued as").await;
    let (envelope, arrived) = node.accepted().await;
    assert!(arrived == message, "the message is another");
    assert!(envelope.chunks.len() >= 6);
    for position in &envelope.chunks {
        let chunk = node.log.read(*position).await.expect("it reads").expect("a chunk");
        assert!(chunk.value.is_some_and(|value| value.len() <= INLINE_BODY_BYTES));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_arrive_byte_for_byte_by_bdat() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.open().await;
    let message = large_message();
    // Sizes at which a chunk ends between CR and LF, too.
    let (first, rest) = message.split_at(message.iter().position(|b| *b == b'\r').expect("a CR") + 1);
    let (second, last) = rest.split_at(1 << 20);
    for chunk in [first, second] {
        client.send(&[format!("BDAT {}\r\n", chunk.len()).as_bytes(), chunk].concat()).await;
        client.expect(&format!("250 2.0.0 {} octets", chunk.len())).await;
    }
    client.send(&[format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat()).await;
    client.expect("250 2.0.0 queued as").await;
    let (envelope, arrived) = node.accepted().await;
    assert!(arrived == message, "the message is another");
    let whole = bodies::load(node.log.as_ref(), &envelope, bytes::Bytes::new()).await.expect("the chunks");
    assert_eq!(whole.len() as u64, envelope.size_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelined_transaction_with_chunks_is_answered_in_order() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.say("EHLO client.example", "250").await;
    client
        .send(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<@>\r\nBDAT 5\r\nA: b\nBDAT 6 LAST\r\n\r\n\r\nx\rNOOP\r\n")
        .await;
    for start in ["250 2.1.0", "250 2.1.5", "501 5.1.3", "250 2.0.0 5 octets", "550 5.6.0", "250 2.0.0 OK"] {
        client.expect(start).await;
    }
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 6 LAST\r\nA: b\r\nQUIT\r\n").await;
    for start in ["250 2.1.0", "250 2.1.5", "250 2.0.0 queued as", "221"] {
        client.expect(start).await;
    }
    client.expect_end().await;
    assert_eq!(&node.accepted().await.1[..], b"A: b\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_alike_of_the_end_is_refused_at_the_true_end_and_nothing_behind_it_is_a_command() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    for look_alike in
        ["\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\n\n.\r\n", "\r\r\n.\r\r\n"]
    {
        let smuggled =
            format!("x{look_alike}MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA");
        let reply = client.deliver(&smuggled).await;
        assert!(reply.starts_with("550 5.6.0"), "{look_alike:?} is answered `{reply}`");
        client.say("NOOP", "250 2.0.0 OK").await;
    }
    assert!(accepted(&node.log).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_is_451_at_every_stage_and_never_550() {
    let node = Node::start().await;
    let (mut stranger, mut early) =
        (Client::connect_from(&node, [127, 0, 0, 2]).await, Client::connect(&node).await);
    let (mut at_data, mut within) = (Client::connect(&node).await, Client::connect(&node).await);
    at_data.open().await;
    within.open().await;
    within.say("DATA", "354").await;
    within.send(b"Subject: x\r\n").await;
    node.log.close().await;
    for client in [&mut stranger, &mut early] {
        client.say("EHLO client.example", "250").await;
        client.say("MAIL FROM:<shop@customer.example>", "451 4.3.").await;
    }
    at_data.say("DATA", "451 4.3.").await;
    within.say("\r\ntext\r\n.", "451 4.3.").await;
    within.say("NOOP", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_views_are_caught_up_it_is_451_for_everybody() {
    let node = Node::start_with(Setup { views_catch_up: false, ..Setup::default() }).await;
    let shut = node.gate.shut().expect("a reason").to_string();
    assert_eq!(shut, "settings and senders are still being read");
    let mut client = Client::connect_from(&node, [127, 0, 0, 2]).await;
    client.say("EHLO client.example", "250").await;
    assert!(client.auth_plain("customer.example", "whatever").await.starts_with("454 4.7.0"));
    client.say("MAIL FROM:<shop@customer.example>", "451 4.3.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scorer_that_fell_behind_is_451() {
    let node = Node::start_with(Setup { scorer: false, max_lag: 0, ..Setup::default() }).await;
    let mut client = Client::connect(&node).await;
    client.deliver("Subject: x").await;
    until_451(&mut client).await;
    assert!(node.log.lag("scorer", Topic::Accepted).await.expect("a lag") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_fell_behind_is_451() {
    let node = Node::start_with(Setup { scorer: false, max_lag: 0, ..Setup::default() }).await;
    let mut client = Client::connect(&node).await;
    client.say("EHLO client.example", "250").await;
    let released = NewRecord::new(Topic::Released, "user", "id", "nobody takes it");
    assert!(node.gate.shut().is_none(), "{:?}", node.gate.shut());
    node.log.append(vec![released]).await.expect("appends");
    until_451(&mut client).await;
    // Whoever runs the node is told the same, and who it is.
    let shut = node.gate.shut().expect("a reason").to_string();
    assert_eq!(shut, "delivery is 1 messages behind, more than max_lag (0)");
}

/// How far the others are behind is looked at now and then.
async fn until_451(client: &mut Client) {
    loop {
        client.send(b"MAIL FROM:<shop@customer.example>\r\n").await;
        let reply = client.reply().await;
        if reply.starts_with("451 4.3.") {
            break;
        }
        assert!(reply.starts_with("250"), "{reply}");
        client.say("RSET", "250").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_maximum_is_refused_and_the_session_goes_on() {
    let mut setup = Setup::default();
    let small = schemas::settings::UserSettings { max_message_bytes: Some(1000), ..Default::default() };
    setup.settings.push(schemas::settings::Setting::Defaults { settings: small });
    let node = Node::start_with(setup).await;
    let mut client = Client::connect(&node).await;
    assert!(client.deliver(&"x".repeat(999)).await.starts_with("552 5.3.4"));
    client.say("MAIL FROM:<shop@customer.example> SIZE=1001", "552 5.3.4").await;
    assert!(client.deliver(&"x".repeat(998)).await.starts_with("250 2.0.0 queued"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_over_the_bound_of_bytes_in_flight_is_452() {
    let mut setup = Setup::default();
    setup.limits.bytes_in_flight = 128 << 10;
    let node = Node::start_with(setup).await;
    let mut client = Client::connect(&node).await;
    assert!(client.deliver(&"line of text\r\n".repeat(20_000)).await.starts_with("452 4.3.1"));
    assert!(client.deliver("Subject: small").await.starts_with("250 2.0.0 queued"));
}

/// Whoever sends the message before the 354 does not know whether it is taken for one: its lines would be commands.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_data_before_the_354_is_never_taken_for_commands() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.say("EHLO client.example", "250").await;
    let inner = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nBDAT 3 LAST\r\nx\r\n";
    client.send(format!("MAIL FROM:<>\r\nRCPT TO:<@>\r\nDATA\r\nRSET\r\n{inner}").as_bytes()).await;
    for start in ["250 2.1.0", "501 5.1.3", "554 5.5.0"] {
        client.expect(start).await;
    }
    client.expect_end().await;
    assert!(accepted(&node.log).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_of_a_bdat_without_a_size_are_never_taken_for_commands() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.open().await;
    client.send(b"BDAT 0x10 LAST\r\nRSET\r\nMAIL FROM:<evil@a.example>\r\n").await;
    client.expect("501 5.5.4").await;
    client.expect_end().await;
}
