//! TLS on the way out is opportunistic: whatever the receiver's TLS is like, mail arrives, and the trace says how.

use std::time::Duration;

use mailweir_tests::dns::NameServer;
use mailweir_tests::hostile::{Hostile, Trick};
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::postfix::Postfix;
use mailweir_tests::smtp;

const SETTINGS: &str =
    "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

/// Sends one message, waits until it is delivered, and traces it.
fn traced(node: &Mailweir, to: &str) -> String {
    let message = smtp::message("x@a.example", to, "Hi", "Text");
    let reply = smtp::send(node.port, "x@a.example", &[to], &message).expect("an answer");
    assert!(reply.starts_with("250"), "{reply}");
    let lines = node.wait_for_outcomes(1, Duration::from_secs(30));
    assert_eq!(lines[0]["outcome"], "delivered", "{}", lines[0]);
    node.ask(&["trace", lines[0]["message_id"].as_str().expect("an id")])
}

#[test]
fn a_certificate_that_the_roots_vouch_for_counts_as_verified() {
    let receiver = Postfix::receiver(&["receiver.example"], &["anna@receiver.example"]);
    let names = NameServer::start(&[("receiver.example", "@ MX 10 mx\nmx A 127.0.0.1".to_owned())]);
    let delivery = format!("dns_servers = [\"{}\"]\nsmtp_port = {}\n", names.address(), receiver.port);
    let with_roots = format!("{delivery}tls_roots_file = \"{}\"", receiver.certificate().display());
    for (delivery, expected) in
        [(with_roots, ", certificate verified"), (delivery, ", certificate not verified")]
    {
        let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);
        let trace = traced(&node, "anna@receiver.example");
        assert!(trace.contains("TLSv1.3") && trace.contains(expected), "{expected}: {trace}");
    }
    assert_eq!(receiver.wait_for_mail("anna@receiver.example", 2).len(), 2);
}

fn hostile(trick: Trick) -> (Hostile, String) {
    let server = Hostile::start_at("127.0.0.1:0", trick);
    let delivery = format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", server.port);
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);
    let trace = traced(&node, "anna@b.example");
    assert_eq!(server.messages().len(), 1);
    assert_eq!(server.connections(), 2, "one with STARTTLS, one without");
    (server, trace)
}

#[test]
fn where_the_handshake_fails_mail_goes_in_the_clear_at_once() {
    let (_, trace) = hostile(Trick::FailsHandshake);
    assert!(trace.contains("no TLS: The TLS handshake failed"), "{trace}");
}

#[test]
fn replies_injected_behind_starttls_are_never_taken_for_those_of_the_session() {
    let (server, trace) = hostile(Trick::InjectsBehindStartTls);
    assert!(trace.contains("no TLS: The server sent data behind its answer to STARTTLS"), "{trace}");
    let afterwards = server.afterwards();
    assert!(afterwards.is_empty(), "sent after it: {}", String::from_utf8_lossy(&afterwards));
}
