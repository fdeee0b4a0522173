//! Our signatures as OpenDKIM sees them, in the receiving Postfix. (dkimpy's view: postfix_and_exim.rs.)

use mailweir_tests::dns::NameServer;
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::opendkim::OpenDkim;
use mailweir_tests::postfix::Postfix;
use mailweir_tests::{ports, smtp};

const SETTINGS: &str = r#"
[[domain]]
name = "customer.example"
dkim_selector = "mw1"

[[dkim_key]]
domain = "customer.example"
selector = "mw1"
generate = true

[[dkim_key]]
domain = "customer.example"
selector = "ed1"
algorithm = "ed25519"
generate = true

[[outgoing_user]]
domain = "customer.example"
ip = "127.0.0.1/32"
"#;

#[test]
fn opendkim_verifies_both_signatures_and_sees_a_changed_body() {
    let milter = ports::free();
    let receiver = Postfix::receiver_with(
        &["receiver.example"],
        &["anna@receiver.example"],
        &format!("smtpd_milters = inet:127.0.0.1:{milter}\nmilter_default_action = tempfail\n"),
    );
    let names = NameServer::start(&[("receiver.example", "@ MX 10 mx\nmx A 127.0.0.1".to_owned())]);
    let delivery =
        format!("dns_servers = [\"{}\"]\nsmtp_port = {}\nretry = [\"1s\"]", names.address(), receiver.port);
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);
    // The public keys go into a real zone, as `mailweir dkim list` shows them.
    let keys = node.json(&["dkim", "list"]);
    let keys = keys["keys"].as_array().expect("keys");
    let records: Vec<&str> = keys.iter().filter_map(|key| key["record"]["zone_file"].as_str()).collect();
    let published = NameServer::start(&[("customer.example", format!("{}\n", records.join("\n")))]);
    let _opendkim = OpenDkim::verifier(milter, &published, "customer.example");

    let body = "Grüße aus Köln\r\n.\r\n  blanks  \r\n\r\n\r\nend";
    let message = smtp::message("Shop <shop@customer.example>", "anna@receiver.example", "Signed", body);
    let reply = smtp::send(node.port, "shop@customer.example", &["anna@receiver.example"], &message)
        .expect("an answer");
    assert!(reply.starts_with("250"), "{reply}");
    let arrived = receiver.wait_for_mail("anna@receiver.example", 1).remove(0);
    let arrived = String::from_utf8_lossy(&arrived);
    let results = results(&arrived);
    assert_eq!(results.matches("dkim=pass").count(), 2, "{results}\n{arrived}");
    assert!(!results.contains("dkim=fail"), "{results}");
    assert!(results.contains("header.s=mw1") && results.contains("header.s=ed1"), "{results}");

    // That it looks at all: the same message with one letter changed does not pass.
    let signed = arrived[arrived.find("DKIM-Signature:").expect("signed")..].replace("\n", "\r\n");
    let changed = signed.replacen("Köln", "Bonn", 1);
    let reply =
        smtp::send(receiver.port, "shop@customer.example", &["anna@receiver.example"], changed.as_bytes())
            .expect("an answer");
    assert!(reply.starts_with("250"), "{reply}");
    let both = receiver.wait_for_mail("anna@receiver.example", 2);
    let changed = both.iter().map(|m| String::from_utf8_lossy(m)).find(|m| m.contains("Bonn"));
    let results = self::results(&changed.expect("the changed one"));
    assert!(results.contains("dkim=fail") && !results.contains("dkim=pass"), "{results}");
}

/// The value of the first Authentication-Results, on one line.
fn results(message: &str) -> String {
    let start = message.find("Authentication-Results:").unwrap_or_else(|| panic!("none: {message}"));
    let mut lines = message[start..].lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.take_while(|line| line.starts_with([' ', '\t'])).fold(first, |all, line| all + " " + line.trim())
}
