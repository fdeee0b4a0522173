//! Limits and locks as a hoster's servers meet them: a real Postfix that is deferred, a real Exim one of whose accounts is
//! locked, and what an operator sees and does.

use std::time::Duration;

use mailweir_tests::exim::Exim;
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::postfix::Postfix;
use mailweir_tests::sink::Sink;
use mailweir_tests::{smtp, wait};

const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

fn settings(defaults: &str) -> String {
    format!(
        "[defaults]\n{defaults}\n[[domain]]\nname = \"server7.hoster.example\"\nabuse_address = \"abuse@hoster.example\"\n\
         [[outgoing_user]]\ndomain = \"server7.hoster.example\"\nip = \"127.0.0.1/32\"\n"
    )
}

fn node(sink: &Sink, defaults: &str) -> Mailweir {
    let delivery = format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", sink.port);
    Mailweir::start(&Setup { delivery, ..Setup::default() }, &settings(defaults))
}

fn send(port: u16, number: usize, body: &str) -> String {
    let to = format!("ok{number}@receiver.example");
    let message = smtp::message("office@shop.example", &to, "Hi", body);
    smtp::send(port, "office@shop.example", &[&to], &message).expect("a reply")
}

/// Messages that arrived, each once: what was killed between the remote 250 and its commit comes again.
fn arrived(sink: &Sink) -> usize {
    sink.received().into_iter().map(|mail| mail.recipients).collect::<std::collections::HashSet<_>>().len()
}

#[test]
fn over_its_limit_a_postfix_is_deferred_keeps_the_rest_and_sends_it_later() {
    let sink = Sink::start();
    let node = node(&sink, "limits = { messages_per_hour = 2 }");
    let client = Postfix::client(node.port, None);
    for number in 0..2 {
        assert!(send(client.port, number, "Text").starts_with("250"));
        // One after the other: what is under way at one moment may slip through, and is then held.
        wait::until("it leaves", Duration::from_secs(20), || (sink.count() == number + 1).then_some(()));
    }
    assert!(send(client.port, 2, "Text").starts_with("250"));
    let line = client.wait_for_log(&["status=deferred", "450 4.7.1 Limit reached: 2 of 2 messages per hour"]);
    assert!(line.contains("ok2@receiver.example"), "{line}");
    assert_eq!(sink.count(), 2);
    assert_eq!(node.json(&["held"])["total"], 0, "it is with the client");
    node.apply(&settings("limits = { messages_per_hour = 20 }"));
    client.wait_for_log(&["to=<ok2@receiver.example>", "status=sent"]);
    wait::until("the last one leaves", Duration::from_secs(20), || (arrived(&sink) == 3).then_some(()));
}

#[test]
fn over_its_limit_an_exim_is_deferred_and_sends_the_rest_when_the_window_frees() {
    let sink = Sink::start();
    let node = node(&sink, "limits = { messages_per_minute = 2 }");
    let exim = Exim::cpanel(node.port);
    let mail = |number: usize| {
        let (from, to) = ("bert@bakery.example", format!("ok{number}@receiver.example"));
        exim.send(from, &to, &smtp::message(from, &to, "Hi", "Bread"))
    };
    for number in 0..2 {
        drop(mail(number));
        wait::until("it leaves", Duration::from_secs(20), || (sink.count() == number + 1).then_some(()));
    }
    let id = mail(2);
    let of_it = || exim.log().lines().filter(|line| line.contains(&id)).collect::<Vec<_>>().join("\n");
    let log = of_it();
    assert!(log.contains("450 4.7.1 Limit reached: 2 of 2 messages per minute"), "{log}");
    assert!(log.contains(" == ") && !log.contains(" ** "), "it is deferred, and no bounce: {log}");
    assert_eq!(sink.count(), 2);
    wait::until("the window frees and Exim tries again", Duration::from_secs(90), || {
        exim.run_queue();
        of_it().contains("Completed").then_some(())
    });
    wait::until("the last one leaves", Duration::from_secs(20), || (arrived(&sink) == 3).then_some(()));
}

/// The reference in a reply, as a person reads it in a bounce or a log.
fn reference(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("550 5.7.1 Blocked as spam, ref ")?;
    Some(rest.chars().take_while(char::is_ascii_alphanumeric).collect())
}

#[test]
fn spam_bounces_from_exim_and_postfix_with_a_reference_that_finds_it() {
    let sink = Sink::start();
    let node = node(&sink, "");
    let (exim, postfix) =
        (Exim::cpanel(node.port), Postfix::client_with(node.port, None, "bounce_size_limit = 1\n"));
    let spam = |from: &str| smtp::message(from, "ok@receiver.example", "Hi", GTUBE);
    drop(exim.send("bert@bakery.example", "ok@receiver.example", &spam("bert@bakery.example")));
    let from = "office@shop.example";
    let reply = smtp::send(postfix.port, from, &["ok@receiver.example"], &spam(from)).expect("a reply");
    assert!(reply.starts_with("250"), "{reply}");
    for sender in ["bert@bakery.example", from] {
        let bounce = wait::until(&format!("the bounce to {sender}"), Duration::from_secs(30), || {
            let to_sender = sink.received().into_iter().find(|mail| mail.recipients == [sender]);
            to_sender.map(|mail| String::from_utf8_lossy(&mail.message).replace("\r\n", "\n"))
        });
        // Postfix folds its text.
        let flat = bounce.split_whitespace().collect::<Vec<_>>().join(" ");
        let id = reference(&flat).unwrap_or_else(|| panic!("no reference in {bounce}"));
        let trace = node.trace(&id);
        assert!(trace.contains("GTUBE") && trace.contains(sender), "{trace}");
    }
    let log = exim.log();
    assert!(log.lines().any(|line| line.contains(" ** ") && reference(line).is_some()), "{log}");
}

#[test]
fn forwarded_spam_locks_nobody_bounces_to_nobody_and_is_reported_to_nobody() {
    let sink = Sink::start();
    let node = node(&sink, "");
    let exim = Exim::cpanel(node.port);
    let from = "SRS0=HHH=TT=elsewhere.example=sender@florist.example";
    for number in 0..6 {
        let to = format!("ok{number}@receiver.example");
        let message = smtp::message("sender@elsewhere.example", &to, "Hi", GTUBE);
        drop(exim.send(from, &to, &message));
    }
    let log = exim.log();
    assert!(log.matches(" => ").count() == 6 && !log.contains(" ** "), "{log}");
    let held = wait::until("they are in quarantine", Duration::from_secs(20), || {
        let answer = node.json(&["quarantine"]);
        let rows = answer["messages"].as_array().cloned().unwrap_or_default();
        (rows.len() == 6).then_some(rows)
    });
    assert!(held.iter().all(|row| row["message"]["classification"] == "forwarded_spam"), "{held:?}");
    let answer = node.json(&["identities"]);
    let rows = answer["identities"].as_array().expect("identities");
    assert!(!rows.is_empty() && rows.iter().all(|row| row["lock"].is_null()), "{rows:?}");
    // An account's own mail still passes, and with it whatever else there would be.
    drop(exim.send(
        "anna@florist.example",
        "ok9@receiver.example",
        &smtp::message("anna@florist.example", "ok9@receiver.example", "Hi", "Flowers"),
    ));
    wait::until("it leaves", Duration::from_secs(20), || (sink.count() == 1).then_some(()));
    assert_eq!(sink.recipients(), ["ok9@receiver.example"]);
}

#[test]
fn what_is_held_is_seen_survives_a_crash_and_is_let_go_by_a_person_or_the_clock() {
    let sink = Sink::start();
    let mut node = node(&sink, "limits = { messages_per_minute = 1 }\nover_limit = \"hold\"");
    for number in 0..4 {
        assert!(send(node.port, number, "Text").starts_with("250"));
    }
    let held = wait::until("three are held", Duration::from_secs(20), || {
        let answer = node.json(&["held"]);
        (answer["total"] == 3).then_some(answer)
    });
    node.kill();
    node.run();
    let id = held["rows"][1]["message"]["id"].as_str().expect("an id");
    assert!(node.ask(&["held"]).contains("1 of 1 messages per minute"));
    node.verb(&["quarantine", "release", id]);
    let last = held["rows"][2]["message"]["id"].as_str().expect("an id");
    node.verb(&["quarantine", "remove", last]);
    wait::until("it leaves", Duration::from_secs(20), || (arrived(&sink) == 2).then_some(()));
    assert_eq!(node.json(&["held"])["total"], 1);
    // A minute and a second after the first, the window has slid on.
    wait::until("the last one leaves", Duration::from_secs(90), || (arrived(&sink) == 3).then_some(()));
    assert_eq!(node.json(&["held"])["total"], 0);
    let trace = node.trace(id);
    assert!(trace.contains("OVER_LIMIT") && trace.contains("delivered"), "{trace}");
}

#[test]
fn five_blocked_messages_lock_one_account_of_a_server_and_nobody_else() {
    let sink = Sink::start();
    let node = node(&sink, "");
    let exim = Exim::cpanel(node.port);
    let mail = |account: &str, body: &str| {
        let to = "ok@receiver.example";
        exim.send(account, to, &smtp::message(account, to, "Hi", body))
    };
    for _ in 0..5 {
        mail("hacked@florist.example", GTUBE);
    }
    let locked = || {
        let answer = node.json(&["identities"]);
        let rows = answer["identities"].as_array().expect("rows").clone();
        rows.iter()
            .filter(|row| !row["lock"].is_null())
            .map(|row| row["identity"].to_string())
            .collect::<Vec<_>>()
    };
    wait::until("the lock", Duration::from_secs(20), || (!locked().is_empty()).then_some(()));
    assert_eq!(locked(), ["\"hacked@florist.example\""]);
    drop(mail("bert@bakery.example", "Bread"));
    wait::until("the neighbour's mail leaves", Duration::from_secs(20), || {
        sink.received().iter().any(|mail| mail.recipients[0].starts_with("ok@")).then_some(())
    });
    // The account's own mail is refused for now: Exim keeps it, as it does for any 450.
    let refused = mail("hacked@florist.example", "A letter");
    wait::until("it is deferred", Duration::from_secs(20), || {
        let log = exim.log();
        let about_it = log.lines().filter(|line| line.contains(&refused)).collect::<Vec<_>>().join("\n");
        (about_it.contains("Sender is locked for now: 5 messages blocked within 10 minutes")).then_some(())
    });
    // The abuse desk is told.
    let notice = wait::until("the notice", Duration::from_secs(20), || {
        let to_desk = sink.received().into_iter().filter(|mail| mail.recipients[0].starts_with("abuse@"));
        to_desk.map(|mail| String::from_utf8_lossy(&mail.message).into_owned()).find(|text| {
            text.contains("Subject: Locked: hacked@florist.example")
                && text.contains("mailweir unlock 127.0.0.1/32")
        })
    });
    assert_eq!(notice.matches("Found: GTUBE 1.00").count(), 5, "{notice}");
    // Whoever looks at the link unlocks nothing; its button does, once.
    let link = notice.lines().find_map(|line| line.split_once("/unlock/")).expect("a link").1.trim();
    let path = format!("/unlock/{link}");
    for _ in 0..2 {
        let (status, page) = node.get(&path).expect("a page");
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("Unlock hacked@florist.example of 127.0.0.1/32?"), "{page}");
    }
    assert_eq!(locked(), ["\"hacked@florist.example\""]);
    assert_eq!(node.post("/unlock/made-up").expect("a page").0, 404);
    let (status, page) = node.post(&path).expect("a page");
    assert_eq!(status, 200, "{page}");
    assert!(locked().is_empty());
    assert_eq!(node.post(&path).expect("a page").0, 410);
    assert_eq!(node.get(&path).expect("a page").0, 410);
    let history = node.json(&["identities"])["identities"].to_string();
    assert!(history.contains("abuse@hoster.example (unlock link)"), "{history}");
}
