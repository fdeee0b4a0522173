//! Limits of recipients, between real mail servers: a receiver that refuses whom it does not have, and clients that are refused
//! for it.

use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::postfix::Postfix;
use mailweir_tests::{smtp, wait};

const PASSWORD: &str = "correct horse";

fn settings(limits: &str) -> String {
    format!(
        "[defaults]\nlimits = {{ {limits} }}\n[[domain]]\nname = \"server7.hoster.example\"\nabuse_address = \"abuse@hoster.example\"\n\
         [[outgoing_user]]\ndomain = \"server7.hoster.example\"\nip = \"127.0.0.1/32\"\n\
         [[domain]]\nname = \"customer.example\"\n\
         [[outgoing_user]]\ndomain = \"customer.example\"\nlogin = \"shop@customer.example\"\npassword = \"{PASSWORD}\"\n"
    )
}

fn world(limits: &str) -> (Postfix, Mailweir) {
    let receiver = Postfix::receiver(
        &["receiver.example", "shop.example", "hoster.example"],
        &["anna@receiver.example", "bert@receiver.example", "office@shop.example", "abuse@hoster.example"],
    );
    let delivery = format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", receiver.port);
    let node = Mailweir::start(&Setup { delivery, ..Setup::default() }, &settings(limits));
    (receiver, node)
}

fn send(port: u16, from: &str, to: &[&str]) -> String {
    let message = smtp::message(from, to[0], "Offer", "Text");
    smtp::send(port, from, to, &message).expect("a reply")
}

/// What a client that is known by its address is told at MAIL FROM.
fn at_mail(node: &Mailweir) -> String {
    let (mut client, _) = smtp::Client::connect(node.port).expect("a connection");
    client.command("EHLO x").expect("a reply");
    client.command("MAIL FROM:<office@shop.example>").expect("a reply")
}

#[test]
fn whoever_writes_to_thirty_who_do_not_exist_is_deferred_and_nobody_else() {
    let (receiver, mut node) = world("invalid_recipients_per_day = 30");
    let guesser = Postfix::client(node.port, None);
    let other = Postfix::client(node.port, Some(("shop@customer.example", PASSWORD)));
    for number in 0..10 {
        let names: Vec<String> = (0..3).map(|n| format!("nobody{number}-{n}@receiver.example")).collect();
        let to: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(send(guesser.port, "office@shop.example", &to).starts_with("250"));
    }
    let limit = "450 4.7.1 Limit reached: 30 of 30 invalid recipients per day; try again in ";
    wait::until("thirty failures are counted", Duration::from_secs(60), || {
        at_mail(&node).starts_with(limit).then_some(())
    });
    // What was counted outlives a crash.
    node.kill();
    node.run();
    assert!(at_mail(&node).starts_with(limit));
    // A server keeps what it is deferred with; another user of the same installation goes on.
    assert!(send(guesser.port, "office@shop.example", &["anna@receiver.example"]).starts_with("250"));
    guesser.wait_for_log(&["to=<anna@receiver.example>", "status=deferred", limit]);
    assert!(send(other.port, "shop@customer.example", &["bert@receiver.example"]).starts_with("250"));
    receiver.wait_for_mail("bert@receiver.example", 1);
    assert!(receiver.mailbox("anna@receiver.example").is_empty());
    // The limit is raised.
    node.apply(&settings("invalid_recipients_per_day = 300"));
    guesser.wait_for_log(&["to=<anna@receiver.example>", "status=sent"]);
    receiver.wait_for_mail("anna@receiver.example", 1);
    let id = wait::until("the log has it", Duration::from_secs(20), || {
        let lines = node.log_lines(&["--recipient", "anna@receiver.example"]);
        lines.first()?["message_id"].as_str().map(str::to_owned)
    });
    let trace = node.trace(&id);
    assert!(
        trace.contains("INVALID_RECIPIENTS") && trace.contains("30 of the last 30 recipients do not exist"),
        "{trace}"
    );
}

#[test]
fn one_recipient_more_than_a_day_may_have_is_deferred_alone() {
    let (receiver, node) = world("distinct_recipients_per_day = 1");
    let client = Postfix::client(node.port, None);
    assert!(send(client.port, "office@shop.example", &["anna@receiver.example"]).starts_with("250"));
    receiver.wait_for_mail("anna@receiver.example", 1);
    // Whom it has written to before it may write to again.
    let both = ["anna@receiver.example", "bert@receiver.example"];
    assert!(send(client.port, "office@shop.example", &both).starts_with("250"));
    receiver.wait_for_mail("anna@receiver.example", 2);
    let limit = "450 4.7.1 Limit reached: 1 of 1 distinct recipients per day";
    client.wait_for_log(&["to=<bert@receiver.example>", "status=deferred", limit]);
    assert!(receiver.mailbox("bert@receiver.example").is_empty());
    node.apply(&settings("distinct_recipients_per_day = 2"));
    receiver.wait_for_mail("bert@receiver.example", 1);
}
