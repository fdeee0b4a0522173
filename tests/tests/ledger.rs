//! The ledger: what was answered 250 is delivered or bounced, whatever is killed meanwhile.
//!
//! Several clients send numbered messages and try again as mail servers do; the node is killed with `kill -9` and started
//! again at random; destinations refuse, defer, break off in the middle of DATA, and fall silent. In the end each accepted
//! recipient has exactly one terminal outcome and arrived at least once; duplicates are counted and explained.
//! LEDGER_MESSAGES and LEDGER_KILLS make it longer; LEDGER_MINUTES spreads them over a time (tests/long).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{smtp, wait};

const CLIENTS: usize = 4;
const KINDS: [&str; 8] = ["ok", "ok", "ok", "refuse", "ok", "defer", "drop", "stall"];

const SETTINGS: &str = r#"
[[domain]]
name = "ledger.example"
[[outgoing_user]]
domain = "ledger.example"
ip = "127.0.0.1/32"
"#;

/// What a client knows of one of its messages.
#[derive(Default)]
struct Entry {
    accepted: bool,
    /// Times the connection broke after the whole message was sent: the 250 may have been lost.
    uncertain: usize,
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_that_was_accepted_is_lost_however_often_it_is_killed() {
    let messages = number("LEDGER_MESSAGES", 1600);
    let kills = number("LEDGER_KILLS", 10);
    let (began, time) = (Instant::now(), Duration::from_secs(60 * number("LEDGER_MINUTES", 0) as u64));
    let due = |n: usize| began + time.mul_f64(n as f64 / messages as f64);
    let sink = Sink::start();
    let delivery =
        format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]\ndata_timeout = \"3s\"", sink.port);
    let mut node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);
    let port = node.port;
    let ledger: Mutex<HashMap<usize, Entry>> = Mutex::default();
    let done = AtomicUsize::new(0);
    let mut killed = 0;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (ledger, done) = (&ledger, &done);
            scope.spawn(move || {
                for n in (client..messages).step_by(CLIENTS) {
                    std::thread::park_timeout(due(n).saturating_duration_since(Instant::now()));
                    let entry = send_until_accepted(port, n);
                    ledger.lock().expect("ledger").insert(n, entry);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Killed at random points of equal stretches of the run.
        let stretch = messages / (kills + 1);
        let mut next = rand::random_range(0..=stretch);
        while done.load(Ordering::Relaxed) < messages {
            if killed < kills && done.load(Ordering::Relaxed) >= next {
                std::thread::park_timeout(Duration::from_millis(rand::random_range(0..20)));
                node.kill();
                node.run();
                killed += 1;
                next = killed * stretch + rand::random_range(0..=stretch);
            }
            wait::pause();
        }
    });
    let ledger = ledger.into_inner().expect("ledger");
    assert_eq!(ledger.len(), messages);
    assert!(killed + 2 >= kills, "killed {killed} times only");
    // What waits for a receiver that fell silent takes its time, the more of it the longer this went on.
    check(&node, &sink, &ledger, killed, Duration::from_secs(120) + time / 2);
    assert_eq!(node.terminate(), Some(0));
}

fn message_id(n: usize) -> String {
    format!("ledger-{n}@ledger.example")
}

fn recipient(n: usize) -> String {
    format!("{}-{n}@dest{}.example", KINDS[n % KINDS.len()], n % 5)
}

fn send_until_accepted(port: u16, n: usize) -> Entry {
    let to = recipient(n);
    let message = format!(
        "From: app{}@ledger.example\r\nTo: {to}\r\nSubject: number {n}\r\nDate: {}\r\nMessage-ID: <{}>\r\n\r\n{}\r\n",
        n % 7,
        smtp::date(),
        message_id(n),
        "some text\r\n".repeat(n % 300)
    );
    let mut entry = Entry::default();
    loop {
        let mut sent = false;
        match try_once(port, &to, message.as_bytes(), &mut sent) {
            Ok(reply) if reply.starts_with("250") => {
                entry.accepted = true;
                return entry;
            }
            Ok(reply) => assert!(reply.starts_with('4'), "a permanent refusal of a good message: {reply}"),
            Err(_) if sent => entry.uncertain += 1,
            Err(_) => {}
        }
        wait::pause();
    }
}

/// One try; `sent` is set once the whole message is on its way.
fn try_once(port: u16, to: &str, message: &[u8], sent: &mut bool) -> std::io::Result<String> {
    let (mut client, greeting) = smtp::Client::connect(port)?;
    if !greeting.starts_with("220") {
        return Ok(greeting);
    }
    for line in ["EHLO client.example", "MAIL FROM:<app@ledger.example>", &format!("RCPT TO:<{to}>"), "DATA"]
    {
        let reply = client.command(line)?;
        if !reply.starts_with(['2', '3']) {
            return Ok(reply);
        }
    }
    *sent = true;
    client.send(&smtp::stuffed(message))?;
    client.reply()
}

fn check(node: &Mailweir, sink: &Sink, ledger: &HashMap<usize, Entry>, killed: usize, limit: Duration) {
    let lines = node.wait_for_outcomes(ledger.len(), limit);
    let mut by_message: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for line in &lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        by_message.entry(text("header_message_id")).or_default().push((text("message_id"), text("outcome")));
    }
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    for received in sink.received() {
        received.recipients.iter().for_each(|r| *arrivals.entry(r.clone()).or_default() += 1);
    }
    let (mut lost_replies, mut redelivered) = (0, 0);
    for (n, entry) in ledger {
        assert!(entry.accepted);
        let rows = by_message.get(&message_id(*n)).map_or(&[][..], Vec::as_slice);
        let refused = recipient(*n).starts_with("refuse");
        let expected = if refused { "failed" } else { "delivered" };
        assert!(!rows.is_empty(), "message {n} was answered 250 and is not in the log");
        assert!(
            rows.iter().all(|(_, outcome)| outcome == expected),
            "message {n}: {rows:?}, expected {expected}"
        );
        assert!(
            rows.len() <= 1 + entry.uncertain,
            "message {n} was taken {} times, with {} replies lost",
            rows.len(),
            entry.uncertain
        );
        lost_replies += rows.len() - 1;
        let arrived = arrivals.get(&recipient(*n)).copied().unwrap_or(0);
        if refused {
            assert_eq!(arrived, 0, "message {n} was refused by its receiver, and is there");
            continue;
        }
        assert!(
            arrived >= rows.len(),
            "message {n}: {} deliveries in the log, {arrived} arrived",
            rows.len()
        );
        redelivered += arrived - rows.len();
    }
    println!(
        "{} messages, {killed} kills: none lost; taken twice because our 250 was lost on its way: {lost_replies}; delivered again because the \
         process died between the remote 250 and its next commit, or the receiver fell silent after it had the message: {redelivered}",
        ledger.len()
    );
}
