//! Clients on IPv6, from the connection to the trace field that receivers see.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{ports, smtp, wait};

#[test]
fn a_client_on_ipv6_is_known_and_named_in_the_trace_field() {
    let sink = Sink::start();
    let port = ports::free();
    let setup = Setup {
        delivery: format!("relay_host = \"127.0.0.1:{}\"", sink.port),
        listener: format!("[[ingress.listener]]\nbind = \"[::1]:{port}\"\ntls = \"starttls\""),
        ..Setup::default()
    };
    let settings =
        "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"::1/128\"\n";
    let node = Mailweir::start(&setup, settings);
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let (mut client, greeting) = smtp::Client::connect_to(address).expect("a connection");
    assert!(greeting.starts_with("220"), "{greeting}");
    let reply = client.command("EHLO client.example").expect("a reply");
    assert!(reply.starts_with("250"), "{reply}");
    let message = smtp::message("x@a.example", "ok@b.example", "Hi", "Text");
    let reply = client.deliver("x@a.example", &["ok@b.example"], &message).expect("a reply");
    assert!(reply.starts_with("250"), "{reply}");
    let received = wait::until("it arrives", Duration::from_secs(20), || sink.received().pop());
    let text = String::from_utf8_lossy(&received.message).into_owned();
    assert!(text.starts_with("Received: from client.example ([IPv6:::1])"), "{text}");
    assert_eq!(node.wait_for_outcomes(1, Duration::from_secs(20))[0]["user"], "::1/128");
    // On IPv4 the same machine is nobody.
    let refused = smtp::send(node.port, "x@a.example", &["ok@b.example"], &message).expect("a reply");
    assert!(refused.starts_with("550 5.7.1"), "{refused}");
}
