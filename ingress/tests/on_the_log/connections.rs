//! Caps, the PROXY protocol, limits, and a graceful stop.

use std::time::Duration;

use schemas::Topic;
use schemas::session::SessionRefusals;

use crate::client::{Client, connected};
use crate::node::{Node, Setup, records};

const TOO_MANY: &str =
    "421 Too many concurrent SMTP connections from this IP address; please try again later.";

#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_connection_waits_for_a_slot_then_is_told_in_the_agreed_words() {
    let mut setup = Setup::default();
    setup.limits.slot_wait = Duration::from_millis(500);
    let node = Node::start_with(setup).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(Client::connect(&node).await);
    }
    let began = std::time::Instant::now();
    let mut eleventh = Client::over(connected(&node, [127, 0, 0, 1]).await);
    assert_eq!(eleventh.reply().await, TOO_MANY);
    assert!(began.elapsed() >= Duration::from_millis(500));
    eleventh.expect_end().await;
    // Another address is not concerned, and a slot that is freed goes to who waits.
    Client::connect_from(&node, [127, 0, 0, 2]).await;
    let mut waiting = Client::over(connected(&node, [127, 0, 0, 1]).await);
    held.pop();
    waiting.expect("220").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_names_the_client_and_is_required() {
    let mut setup = Setup::default();
    setup.listener.proxy_protocol_from = vec!["127.0.0.9/32".parse().expect("a range")];
    let node = Node::start_with(setup).await;
    // The load balancer is nobody; the client it names is known.
    let mut client = Client::over(connected(&node, [127, 0, 0, 9]).await);
    client.send(b"PROXY TCP4 127.0.0.1 127.0.0.9 4711 25\r\n").await;
    client.expect("220").await;
    client.say("EHLO client.example", "250").await;
    client.say("MAIL FROM:<shop@customer.example>", "250").await;
    // Version 2, in two pieces.
    let mut client = Client::over(connected(&node, [127, 0, 0, 9]).await);
    client.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x11").await;
    client.send(b"\0\x0c\x7f\0\0\x01\x7f\0\0\x09\x12\x67\0\x19").await;
    client.expect("220").await;
    client.say("HELO x", "250").await;
    client.say("MAIL FROM:<shop@customer.example>", "250").await;
    // Without one, and with a bad one, it is over.
    for wrong in [
        &b"EHLO client.example\r\n"[..],
        b"PROXY TCP4 127.0.0.1\r\n",
        b"PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n",
    ] {
        let mut client = Client::over(connected(&node, [127, 0, 0, 9]).await);
        client.send(wrong).await;
        client.expect_end().await;
    }
    // From a peer that is no load balancer it is no command, and names nobody.
    let mut client = Client::connect_from(&node, [127, 0, 0, 2]).await;
    client.say("PROXY TCP4 127.0.0.1 127.0.0.9 4711 25", "500").await;
    client.say("EHLO client.example", "250").await;
    client.say("MAIL FROM:<shop@customer.example>", "550 5.7.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_too_long_or_end_wrongly_are_answered_and_the_session_goes_on() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.say(&"x".repeat(100_000), "500 5.5.2").await;
    client.say(&format!("NOOP {}", "x".repeat(2041)), "250").await;
    client.say(&format!("NOOP {}", "x".repeat(2042)), "500 5.5.2").await;
    client.send(b"NOOP\n").await;
    client.expect("500 5.5.2").await;
    client.send(b"NOOP\rQUIT\r\n").await;
    client.expect("500 5.5.2").await;
    client.say("NOOP", "250").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_silent_or_wrong_too_often_is_closed_with_421() {
    let mut setup = Setup::default();
    setup.limits.command_timeout = Duration::from_millis(300);
    setup.limits.errors = 3;
    let node = Node::start_with(setup).await;
    let mut silent = Client::connect(&node).await;
    silent.expect("421 4.").await;
    silent.expect_end().await;
    let mut wrong = Client::connect(&node).await;
    wrong.send(b"FOO\r\nFOO\r\nFOO\r\nNOOP\r\n").await;
    for start in ["500", "500", "500", "421 4.7.0"] {
        wrong.expect(start).await;
    }
    wrong.expect_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_ends_idle_sessions_and_lets_a_message_finish() {
    let node = Node::start().await;
    let (mut idle, mut busy) = (Client::connect(&node).await, Client::connect(&node).await);
    busy.open().await;
    busy.say("DATA", "354").await;
    busy.send(b"Subject: x\r\n").await;
    node.begin_stop();
    idle.expect("421 4.3.2").await;
    idle.expect_end().await;
    busy.say("\r\ntext\r\n.", "250 2.0.0 queued as").await;
    busy.expect("421 4.3.2").await;
    busy.expect_end().await;
    node.stopped().await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_recorded_by_client_and_reason() {
    let node = Node::start().await;
    for _ in 0..3 {
        let mut client = Client::connect_from(&node, [127, 0, 0, 2]).await;
        client.say("EHLO client.example", "250").await;
        client.say("MAIL FROM:<a@b.example>", "550").await;
    }
    let log = node.stopped().await;
    let all = records(&log, Topic::Sessions).await;
    let refusals: SessionRefusals = serde_json::from_slice(&all[0]).expect("refusals");
    assert_eq!((all.len(), refusals.reason.as_str(), refusals.count), (1, "unauthorised", 3));
    assert_eq!(refusals.client_ip.to_string(), "127.0.0.2");
    assert_eq!(refusals.reply.code, 550);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_all_connections_it_is_421_at_once_and_not_for_the_address() {
    let mut setup = Setup::default();
    setup.limits.max_connections = 3;
    let node = Node::start_with(setup).await;
    let mut held = Vec::new();
    for last in 1..=3 {
        held.push(Client::connect_from(&node, [127, 0, 0, last]).await);
    }
    let mut fourth = Client::over(connected(&node, [127, 0, 0, 4]).await);
    let began = std::time::Instant::now();
    fourth.expect("421 4.3.2 Too many connections").await;
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_stalls_ends_with_421_and_is_recorded() {
    let mut setup = Setup::default();
    setup.limits.data_timeout = Duration::from_millis(300);
    let node = Node::start_with(setup).await;
    let mut client = Client::connect(&node).await;
    client.open().await;
    client.say("DATA", "354").await;
    client.send(b"Subject: x\r\n").await;
    client.expect("421 4.4.2").await;
    client.expect_end().await;
    let all = records(&node.stopped().await, Topic::Sessions).await;
    let refusals: SessionRefusals = serde_json::from_slice(&all[0]).expect("refusals");
    assert_eq!(refusals.reason, "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_does_not_wait_for_an_idle_transaction_and_cuts_off_who_stalls() {
    let mut setup = Setup::default();
    setup.limits.drain = Duration::from_millis(500);
    let node = Node::start_with(setup).await;
    let (mut open, mut stalled) = (Client::connect(&node).await, Client::connect(&node).await);
    open.open().await;
    stalled.open().await;
    stalled.say("DATA", "354").await;
    node.begin_stop();
    open.expect("421 4.3.2").await;
    node.stopped().await.close().await;
    stalled.expect_end().await;
}
