//! Each `250 ... queued as <id>` is a promise about that id: the ledger asks for every single one, so that a lost message
//! cannot hide behind a second copy that its client sent. And senders of refused mail are told.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp::{self, Client};
use mailweir_tests::wait;

const SETTINGS: &str = r#"
[defaults]
max_connections = 50
[[domain]]
name = "client.example"
[[outgoing_user]]
domain = "client.example"
ip = "127.0.0.1/32"
"#;
const FROM: &str = "a@client.example";
const CLIENTS: usize = 6;

fn node_before(sink: &Sink) -> Mailweir {
    let delivery = format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", sink.port);
    Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS)
}

/// What clients know: recipient by the id they were told, and recipients whose message they sent more than once.
#[derive(Default)]
struct Promises {
    by_id: BTreeMap<String, String>,
    sent_again: BTreeSet<String>,
}

/// Sends one message over a connection that is kept while it lasts. None: the client keeps the message; `sent` tells
/// whether all of it was on its way.
fn attempt(open: &mut Option<Client>, port: u16, to: &str, sent: &mut bool) -> Option<String> {
    let mut client = match open.take() {
        Some(client) => client,
        None => {
            let (mut client, greeting) = Client::connect(port).ok()?;
            let hello = client.command("EHLO client.example").ok()?;
            (greeting.starts_with("220") && hello.starts_with("250")).then_some(())?;
            client
        }
    };
    for line in [&format!("MAIL FROM:<{FROM}>"), &format!("RCPT TO:<{to}>"), "DATA"] {
        let reply = client.command(line).ok()?;
        assert!(!reply.starts_with('5'), "a good message was refused for good: {reply}");
        reply.starts_with(['2', '3']).then_some(())?;
    }
    *sent = true;
    client.send(&smtp::stuffed(&smtp::message(FROM, to, to, "some text"))).ok()?;
    let reply = client.reply().ok()?;
    *sent = reply.starts_with("250");
    assert!(!reply.starts_with('5'), "a good message was refused for good: {reply}");
    let id = reply.split("queued as ").nth(1)?.trim().to_owned();
    *open = Some(client);
    Some(id)
}

#[test]
fn every_id_that_a_client_was_told_has_its_outcome_after_kills() {
    let messages: usize = std::env::var("LEDGER_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let kills: usize = std::env::var("LEDGER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let recipient =
        |n: usize| format!("{}{n}@sink.example", ["ok", "ok", "refuse", "ok", "defer", "drop"][n % 6]);
    let sink = Sink::start();
    let mut node = node_before(&sink);
    let (port, next) = (node.port, AtomicUsize::new(0));
    let promises: Mutex<Promises> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut open = None;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= messages {
                        return;
                    }
                    let to = recipient(n);
                    loop {
                        let mut sent = false;
                        if let Some(id) = attempt(&mut open, port, &to, &mut sent) {
                            promises.lock().expect("promises").by_id.insert(id, to);
                            break;
                        }
                        if sent {
                            promises.lock().expect("promises").sent_again.insert(to.clone());
                        }
                        wait::pause();
                    }
                }
            });
        }
        // While there is mail coming in; the last one when there is only the queue.
        for kill in 1..=kills {
            wait::until("more mail is accepted", Duration::from_secs(240), || {
                let accepted = promises.lock().expect("promises").by_id.len();
                (accepted * kills >= messages * kill).then_some(())
            });
            std::thread::park_timeout(Duration::from_millis(rand::random_range(0..150)));
            node.kill();
            node.run();
        }
    });
    let promises = promises.into_inner().expect("promises");
    assert_eq!(promises.by_id.len(), messages, "each message was accepted, under an id of its own");
    let lines = wait::until("every promised id has its outcome", Duration::from_secs(120), || {
        let lines = node.log_lines(&[]);
        let known: HashSet<&str> = lines
            .iter()
            .filter(|line| line["outcome"] != "queued")
            .filter_map(|line| line["message_id"].as_str())
            .collect();
        promises.by_id.keys().all(|id| known.contains(id.as_str())).then(|| lines.clone())
    });
    check(&promises, &lines, &sink, kills);
}

fn check(promises: &Promises, lines: &[serde_json::Value], sink: &Sink, kills: usize) {
    let mut outcomes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        outcomes.entry(text("message_id")).or_default().push(text("outcome"));
    }
    let refused: Vec<&String> = promises.by_id.values().filter(|to| to.starts_with("refuse")).collect();
    // A bounce is mail of its own, on its way a moment later.
    let told = wait::until("senders are told of every refusal", Duration::from_secs(60), || {
        let told: Vec<String> = sink
            .received()
            .iter()
            .filter(|received| received.recipients == [FROM])
            .map(|received| String::from_utf8_lossy(&received.message).into_owned())
            .collect();
        (told.len() >= refused.len()).then_some(told)
    });
    let named: HashSet<&str> = told
        .iter()
        .flat_map(|bounce| bounce.lines())
        .filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;"))
        .map(str::trim)
        .collect();
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for to in sink.received().into_iter().flat_map(|received| received.recipients) {
        *arrived.entry(to).or_default() += 1;
    }
    let mut problems = Vec::new();
    let mut twice = 0;
    for (id, to) in &promises.by_id {
        let (expected, count) = match to.starts_with("refuse") {
            true => ("failed", 0..=0),
            false => ("delivered", 1..=usize::MAX),
        };
        if outcomes.get(id.as_str()).is_none_or(|found| found[..] != [expected]) {
            problems.push(format!("{id} to {to}: {:?}, not one `{expected}`", outcomes.get(id.as_str())));
        }
        let arrivals = arrived.get(to).copied().unwrap_or(0);
        if !count.contains(&arrivals) {
            problems.push(format!("{id} to {to}: `{expected}`, and arrived {arrivals} times"));
        }
        if expected == "failed" && !named.contains(to.as_str()) {
            problems.push(format!("{id} to {to}: its sender was not told"));
        }
        twice += arrivals.saturating_sub(1);
    }
    println!(
        "{} promised ids, {kills} kills: each has one outcome; {} refusals told; {twice} arrivals more than once, {} \
         messages were sent again by their client",
        promises.by_id.len(),
        refused.len(),
        promises.sent_again.len()
    );
    assert!(problems.is_empty(), "{}: {:#?}", problems.len(), &problems[..problems.len().min(20)]);
}

#[test]
fn a_graceful_stop_under_load_loses_nothing_and_sends_nothing_twice() {
    let sink = Sink::start();
    let mut node = node_before(&sink);
    let (port, over) = (node.port, AtomicBool::new(false));
    let accepted: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (over, accepted) = (&over, &accepted);
            scope.spawn(move || {
                let mut open = None;
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let kind = if n % 5 == 0 { "defer" } else { "ok" };
                    let to = format!("{kind}-{client}-{n}@sink.example");
                    if attempt(&mut open, port, &to, &mut false).is_some() {
                        accepted.lock().expect("accepted").push(to);
                    }
                }
            });
        }
        wait::until("mail flows", Duration::from_secs(30), || {
            (accepted.lock().expect("accepted").len() > 500).then_some(())
        });
        assert_eq!(node.terminate(), Some(0));
        over.store(true, Ordering::Relaxed);
    });
    node.run();
    let accepted = accepted.into_inner().expect("accepted");
    let lines = node.wait_for_outcomes(accepted.len(), Duration::from_secs(60));
    assert!(lines.iter().all(|line| line["outcome"] == "delivered"));
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for to in sink.received().into_iter().flat_map(|received| received.recipients) {
        *arrived.entry(to).or_default() += 1;
    }
    let wrong: Vec<_> = accepted
        .iter()
        .map(|to| (to, arrived.get(to).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .collect();
    assert!(wrong.is_empty(), "not exactly once: {wrong:?}");
    println!("{} messages around a graceful stop: each arrived once", accepted.len());
}
