//! Where mail goes by real DNS: IPv6, address literals, domains without MX, null MX, the next server when one fails.

use std::time::Duration;

use mailweir_tests::dns::NameServer;
use mailweir_tests::hostile::{Hostile, Trick};
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{ports, smtp, wait};

const SETTINGS: &str =
    "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

fn node(names: &NameServer, smtp_port: u16) -> Mailweir {
    let delivery =
        format!("dns_servers = [\"{}\"]\nsmtp_port = {smtp_port}\nretry = [\"1s\"]", names.address());
    Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS)
}

fn send(node: &Mailweir, to: &[&str]) {
    let message = smtp::message("x@a.example", to[0], "Hi", "Text");
    let reply = smtp::send(node.port, "x@a.example", to, &message).expect("an answer");
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn each_recipient_is_delivered_where_its_domain_says() {
    let port = ports::free_on(&["::1", "127.0.0.5", "127.0.0.6"]);
    let six = Sink::start_at(&format!("[::1]:{port}"));
    let five = Sink::start_at(&format!("127.0.0.5:{port}"));
    let names = NameServer::start(&[
        // The server has an IPv6 address only.
        ("six.example", "@ MX 10 mx\nmx AAAA ::1".to_owned()),
        // No MX: the domain's own address (RFC 5321 5.1).
        ("address.example", "@ A 127.0.0.5".to_owned()),
        ("address-six.example", "@ AAAA ::1".to_owned()),
        // RFC 7505.
        ("null.example", "@ MX 0 .\n@ A 127.0.0.5".to_owned()),
        // Neither MX nor address.
        ("text.example", "@ TXT \"nothing else\"".to_owned()),
        // Nobody listens at the first address of the best server.
        ("half.example", "@ MX 10 mx\n@ MX 20 other\nmx A 127.0.0.6\nother A 127.0.0.5".to_owned()),
        ("a.example", "@ MX 10 mx\nmx A 127.0.0.5".to_owned()),
    ]);
    let node = node(&names, port);
    send(
        &node,
        &[
            "ok@six.example",
            "ok@address.example",
            "ok@address-six.example",
            "ok@half.example",
            "ok@[127.0.0.5]",
            "ok@[IPv6:::1]",
            "ok@null.example",
            "ok@text.example",
        ],
    );
    let lines = node.wait_for_outcomes(8, Duration::from_secs(30));
    assert_eq!(six.recipients(), ["ok@[IPv6:::1]", "ok@address-six.example", "ok@six.example"]);
    let failed = |domain: &str| {
        let line = lines.iter().find(|l| l["forward_path"] == format!("ok@{domain}")).expect("its line");
        assert_eq!(line["outcome"], "failed", "{line}");
        line["reply"].as_str().unwrap_or_default().to_owned()
    };
    assert!(failed("null.example").contains("null MX"));
    assert!(failed("text.example").contains("neither MX nor address"));
    // Two DSNs, one for each of those, go to the sender.
    wait::until("the sender is told", Duration::from_secs(20), || {
        let arrived = five.recipients();
        (arrived.iter().filter(|to| *to == "x@a.example").count() == 2).then_some(())
    });
    let mut arrived = five.recipients();
    arrived.dedup();
    assert_eq!(arrived, ["ok@[127.0.0.5]", "ok@address.example", "ok@half.example", "x@a.example"]);
}

#[test]
fn a_host_that_does_not_answer_over_ipv6_is_tried_over_ipv4() {
    let port = ports::free_on(&["::1", "127.0.0.5"]);
    let four = Sink::start_at(&format!("127.0.0.5:{port}"));
    let names = NameServer::start(&[("dual.example", "@ MX 10 mx\nmx AAAA ::1\nmx A 127.0.0.5".to_owned())]);
    let node = node(&names, port);
    send(&node, &["ok@dual.example"]);
    let lines = node.wait_for_outcomes(1, Duration::from_secs(20));
    assert_eq!((&lines[0]["outcome"], four.count()), (&"delivered".into(), 1));
    assert_eq!(lines[0]["tries"].as_u64().unwrap_or(1), 1, "within the first try: {}", lines[0]);
}

/// Two servers, of which the better one has a trick; the message must arrive at the other within the first try.
fn next_server_after(trick: Trick) {
    let port = ports::free_on(&["127.0.0.5", "127.0.0.6"]);
    let bad = Hostile::start_at(&format!("127.0.0.5:{port}"), trick);
    let good = Sink::start_at(&format!("127.0.0.6:{port}"));
    let names = NameServer::start(&[(
        "two.example",
        "@ MX 10 bad\n@ MX 20 good\nbad A 127.0.0.5\ngood A 127.0.0.6".to_owned(),
    )]);
    let node = node(&names, port);
    send(&node, &["ok@two.example"]);
    wait::until("the better server is tried", Duration::from_secs(10), || {
        (bad.connections() > 0).then_some(())
    });
    wait::until("it arrives at the other", Duration::from_secs(10), || (good.count() == 1).then_some(()));
}

#[test]
fn a_server_that_greets_with_421_is_passed_over() {
    next_server_after(Trick::GreetsWith421);
}

#[test]
fn a_server_that_drops_after_ehlo_is_passed_over() {
    next_server_after(Trick::DropsAfterEhlo);
}

#[test]
fn mail_to_postmaster_alone_goes_where_the_name_of_this_server_is_routed() {
    let sink = Sink::start();
    let route = format!("[[route]]\ndomain = \"smtp.hoster.example\"\nhost = \"127.0.0.1:{}\"\n", sink.port);
    let node = Mailweir::start(&Setup::default(), &format!("{SETTINGS}{route}"));
    send(&node, &["Postmaster"]);
    wait::until("it arrives", Duration::from_secs(20), || (sink.count() == 1).then_some(()));
    assert_eq!(sink.recipients(), ["postmaster@smtp.hoster.example"]);
}
