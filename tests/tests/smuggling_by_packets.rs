//! Smuggling where packets end at the worst place, and line ends hidden in commands.

use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp::{self, Client};
use mailweir_tests::wait;

const SETTINGS: &str = r#"
[[domain]]
name = "client.example"
[[outgoing_user]]
domain = "client.example"
ip = "127.0.0.1/32"
"#;
const FROM: &str = "a@client.example";
const TO: &str = "ok@sink.example";

/// All have a bare CR or LF, so the message is refused as a whole, at its real end.
const BARE: [&[u8]; 9] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\n.\r\n",
];
const HIDDEN: &[u8] = b"MAIL FROM:<ceo@bank.example>\r\nRCPT TO:<ok-smuggled@sink.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n";

fn node_before(sink: &Sink) -> Mailweir {
    let delivery = format!("relay_host = \"127.0.0.1:{}\"", sink.port);
    Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS)
}

/// A transaction opened up to the 354.
fn opened(node: &Mailweir) -> Client {
    let (mut client, _) = Client::connect(node.port).expect("a connection");
    for line in ["EHLO client.example", &format!("MAIL FROM:<{FROM}>"), &format!("RCPT TO:<{TO}>"), "DATA"] {
        let reply = client.command(line).expect("a reply");
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
    client
}

/// An honest message arrives, and nothing came before it.
fn only_honest_mail_arrives(node: &Mailweir, sink: &Sink) {
    let honest = smtp::message(FROM, TO, "honest", "text");
    let reply = smtp::send(node.port, FROM, &[TO], &honest).expect("a reply");
    assert!(reply.starts_with("250"), "{reply}");
    node.wait_for_outcomes(1, Duration::from_secs(20));
    let received = sink.received();
    assert_eq!(received.len(), 1, "more than the honest message arrived");
    assert_eq!(received[0].recipients, [TO]);
}

#[test]
fn wherever_a_packet_ends_a_bare_line_end_has_the_whole_message_refused() {
    let sink = Sink::start();
    let node = node_before(&sink);
    for end in BARE {
        let mut wire = smtp::message(FROM, TO, "outer", "before");
        wire.truncate(wire.len() - 2);
        let at = wire.len();
        wire.extend_from_slice(end);
        wire.extend_from_slice(HIDDEN);
        for cut in at..=at + end.len() {
            let what = format!("{:?} cut after {} bytes", String::from_utf8_lossy(end), cut - at);
            let mut client = opened(&node);
            client.send(&wire[..cut]).expect("the first packet");
            wait::pause();
            client.send(&wire[cut..]).expect("the second packet");
            let reply = client.reply().expect("a reply");
            assert!(reply.starts_with('5'), "{what}: {reply}");
            // One reply for one message: the next answers this line, which no other command could be answered with.
            let next = client.command("NO-SUCH-VERB").expect("a reply");
            assert!(next.starts_with("500"), "{what}: a second reply: {next}");
        }
    }
    only_honest_mail_arrives(&node, &sink);
}

#[test]
fn a_chunk_with_a_bare_line_end_is_refused_even_when_it_is_split_between_two() {
    let sink = Sink::start();
    let node = node_before(&sink);
    // The last is CR at the end of one chunk, and no LF at the start of the next.
    for (first, second) in [("a\nb", "c"), ("a", "\n.\nc"), ("a\r", "b"), ("a", "b\r"), ("a\r", "\rb")] {
        let (mut client, _) = Client::connect(node.port).expect("a connection");
        client.command("EHLO client.example").expect("a reply");
        client.command(&format!("MAIL FROM:<{FROM}>")).expect("a reply");
        client.command(&format!("RCPT TO:<{TO}>")).expect("a reply");
        let mut chunk = smtp::message(FROM, TO, "chunk", "");
        chunk.extend_from_slice(first.as_bytes());
        client.send(format!("BDAT {}\r\n", chunk.len()).as_bytes()).expect("BDAT");
        client.send(&chunk).expect("a chunk");
        let refused = client.reply().expect("a reply").starts_with('5');
        let last = format!("BDAT {} LAST\r\n{second}", second.len());
        client.send(last.as_bytes()).expect("the last chunk");
        let reply = client.reply().expect("a reply");
        assert!(refused || reply.starts_with('5'), "{first:?}, {second:?}: {reply}");
        assert!(!reply.starts_with("250"), "{first:?}, {second:?}: taken in the end: {reply}");
    }
    only_honest_mail_arrives(&node, &sink);
}

#[test]
fn a_line_end_inside_a_command_opens_no_transaction() {
    let sink = Sink::start();
    let node = node_before(&sink);
    for separator in ["\n", "\r", "\0", "\r\r"] {
        let (mut client, _) = Client::connect(node.port).expect("a connection");
        client.command("EHLO client.example").expect("a reply");
        client.send(format!("MAIL FROM:<{FROM}>{separator}RCPT TO:<{TO}>\r\n").as_bytes()).expect("the line");
        let reply = client.reply().expect("a reply");
        assert!(reply.starts_with('5'), "{separator:?}: {reply}");
        let data = client.command("DATA");
        assert!(data.is_err() || data.is_ok_and(|reply| reply.starts_with('5')), "{separator:?}");
    }
    only_honest_mail_arrives(&node, &sink);
}
