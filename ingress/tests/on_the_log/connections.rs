//! Caps, the PROXY protocol, limits, and a graceful stop.

use std::time::Duration;

use ingress::{Config, Error, Ingress, ListenerConfig};
use prometheus_client::registry::Registry;
use schemas::session::SessionRefusals;
use schemas::settings::{OutgoingUser, Setting, UserAuth, UserSettings};
use schemas::{Domain, Topic};

use crate::client::{Client, connected};
use crate::node::{Node, PASSWORD, Setup, accepted, records, users};

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

/// The users, with `defaults` connections unless they say otherwise and `shop` of shop@customer.example.
fn connections(defaults: u32, shop: u32) -> Vec<Setting> {
    let max = |number| UserSettings { max_connections: Some(number), ..UserSettings::default() };
    let mut settings = users();
    for setting in &mut settings {
        if let Setting::OutgoingUser(user) = setting
            && user.id().as_str() == "shop@customer.example"
        {
            user.settings = max(shop);
        }
    }
    settings.push(Setting::Defaults { settings: max(defaults) });
    settings
}

const OFFICE: [u8; 4] = [127, 0, 0, 2];

async fn as_shop(client: &mut Client) -> String {
    client.say("EHLO client.example", "250").await;
    client.auth_plain("shop@customer.example", PASSWORD).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_count_for_an_address_that_is_nobodys() {
    let mut setup = Setup { settings: connections(2, 2), ..Setup::default() };
    setup.limits.slot_wait = Duration::from_millis(200);
    let node = Node::start_with(setup).await;
    let _held = (Client::connect_from(&node, OFFICE).await, Client::connect_from(&node, OFFICE).await);
    assert_eq!(Client::over(connected(&node, OFFICE).await).reply().await, TOO_MANY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_larger_number_makes_room_for_itself() {
    let mut setup = Setup { settings: connections(2, 4), ..Setup::default() };
    setup.limits.slot_wait = Duration::from_secs(10);
    let node = Node::start_with(setup).await;
    let mut first = Client::connect_from(&node, OFFICE).await;
    let mut held = vec![Client::connect_from(&node, OFFICE).await];
    // The third waits until somebody may have more than two.
    let mut third = Client::over(connected(&node, OFFICE).await);
    assert!(as_shop(&mut first).await.starts_with("235"));
    third.expect("220").await;
    held.push(third);
    held.push(Client::connect_from(&node, OFFICE).await);
    // The fifth gets in when one of the four is gone.
    let mut fifth = Client::over(connected(&node, OFFICE).await);
    held.pop();
    fifth.expect("220").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_smaller_number_is_told_at_auth() {
    let mut setup = Setup { settings: connections(10, 1), ..Setup::default() };
    setup.limits.slot_wait = Duration::from_millis(300);
    let node = Node::start_with(setup).await;
    let (mut first, mut second) =
        (Client::connect_from(&node, OFFICE).await, Client::connect_from(&node, OFFICE).await);
    assert!(as_shop(&mut first).await.starts_with("235"));
    let began = std::time::Instant::now();
    assert_eq!(as_shop(&mut second).await, TOO_MANY);
    assert!(began.elapsed() >= Duration::from_millis(300), "it waited for the other to end");
    second.expect_end().await;
    // Another login from there is not concerned, nor is this one from elsewhere.
    let mut other = Client::connect_from(&node, OFFICE).await;
    other.say("EHLO client.example", "250").await;
    assert!(other.auth_plain("customer.example", PASSWORD).await.starts_with("235"));
    assert!(as_shop(&mut Client::connect_from(&node, [127, 0, 0, 3]).await).await.starts_with("235"));
    first.say("QUIT", "221").await;
    assert!(as_shop(&mut Client::connect_from(&node, OFFICE).await).await.starts_with("235"));
}

/// Users of ranges of IPv6.
fn ranges(ranges: &[&str]) -> Vec<Setting> {
    let domain = Domain::parse("customer.example").expect("a domain");
    let user = |range: &&str| {
        let auth = UserAuth::Ip { range: range.parse().expect("a range") };
        let settings = UserSettings::default();
        Setting::OutgoingUser(OutgoingUser { domain: domain.clone(), auth, settings })
    };
    ranges.iter().map(user).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_ipv6_is_the_user_of_the_narrowest_range() {
    let mut setup = Setup { settings: ranges(&["::/64", "::1/128"]), ..Setup::default() };
    setup.listener.bind = "[::1]:0".parse().expect("an address");
    let node = Node::start_with(setup).await;
    let stream = tokio::net::TcpStream::connect(node.smtp).await.expect("a connection");
    let mut client = Client::over(stream);
    client.expect("220").await;
    assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
    let (envelope, _) = node.accepted().await;
    assert_eq!(envelope.user.as_str(), "::1/128");
    assert_eq!(envelope.client.address.ip(), std::net::Ipv6Addr::LOCALHOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_names_a_client_on_ipv6() {
    let settings = ranges(&["2001:db8:1::/48", "2001:db8:1:2::/64", "2001:db8:1:2::7/128"]);
    let mut setup = Setup { settings, ..Setup::default() };
    setup.listener.proxy_protocol_from = vec!["127.0.0.9/32".parse().expect("a range")];
    let node = Node::start_with(setup).await;
    for (from, user) in [
        ("2001:db8:1:2::7", Some("2001:db8:1:2::7/128")),
        ("2001:db8:1:2::8", Some("2001:db8:1:2::/64")),
        ("2001:db8:1:3::7", Some("2001:db8:1::/48")),
        ("2001:db8:2::7", None),
    ] {
        let mut client = Client::over(connected(&node, [127, 0, 0, 9]).await);
        client.send(format!("PROXY TCP6 {from} 2001:db8::25 4711 587\r\n").as_bytes()).await;
        client.expect("220").await;
        client.say("EHLO client.example", "250").await;
        let Some(user) = user else {
            client.say("MAIL FROM:<shop@customer.example>", "550 5.7.1").await;
            continue;
        };
        assert!(client.deliver("Subject: x").await.starts_with("250 2.0.0 queued"));
        let all = accepted(&node.log).await;
        let newest = all.iter().max_by_key(|(envelope, _)| envelope.accepted_at).expect("a message");
        assert_eq!(newest.0.user.as_str(), user);
        assert_eq!(newest.0.client.address.ip().to_string(), from);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_default_listener_may_be_missing() {
    let listener = |bind: &str, optional| ListenerConfig {
        bind: bind.parse().expect("an address"),
        optional,
        ..Setup::default().listener
    };
    let bind = |second: ListenerConfig| {
        let config = Config {
            node: "node1".into(),
            hostname: "smtp.hoster.example".into(),
            listeners: vec![listener("127.0.0.1:0", false), second],
            tls: None,
            verdict_timeout: Duration::from_secs(1),
            limits: ingress::Limits::default(),
        };
        async move { Ingress::bind(config, &mut Registry::default()).await.map(|it| it.addresses().len()) }
    };
    // No machine has an address of the documentation.
    assert!(matches!(bind(listener("[2001:db8::25]:0", true)).await, Ok(1)));
    assert!(matches!(bind(listener("[2001:db8::25]:0", false)).await, Err(Error::Bind { .. })));
    let taken = std::net::TcpListener::bind("[::1]:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    assert!(matches!(bind(listener(&address, true)).await, Err(Error::Bind { .. })), "it is in use");
}
