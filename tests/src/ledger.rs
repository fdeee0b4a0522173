//! A ledger of numbered messages: what clients were told, against what arrived and what statistics say.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::sink::Sink;
use crate::{smtp, wait};

const KINDS: [&str; 8] = ["ok", "ok", "ok", "refuse", "ok", "defer", "drop", "stall"];

pub const SETTINGS: &str = r#"
[[domain]]
name = "ledger.example"
[[outgoing_user]]
domain = "ledger.example"
ip = "127.0.0.1/32"
"#;

/// What a client knows of one of its messages.
#[derive(Default)]
pub struct Entry {
    accepted: bool,
    /// Times it could not tell whether the message was taken: the connection broke after all of it was sent, or the
    /// answer was to try again.
    uncertain: usize,
}

/// What came more than once.
pub struct Repeated {
    /// Taken again because our answer was lost on its way.
    pub taken: usize,
    /// Delivered again because a process died between the receiver's 250 and its own next commit, or the receiver fell
    /// silent after it had the message.
    pub delivered: usize,
}

/// A number from the environment, which makes a test longer.
#[must_use]
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn message_id(n: usize) -> String {
    format!("ledger-{n}@ledger.example")
}

fn recipient(n: usize) -> String {
    format!("{}-{n}@dest{}.example", KINDS[n % KINDS.len()], n % 5)
}

/// Sends message `n` to one port after the other until one takes it.
///
/// # Panics
/// When it is refused for good.
#[must_use]
pub fn send_until_accepted(ports: &[u16], n: usize) -> Entry {
    let to = recipient(n);
    let message = format!(
        "From: app{}@ledger.example\r\nTo: {to}\r\nSubject: number {n}\r\nDate: {}\r\nMessage-ID: <{}>\r\n\r\n{}\r\n",
        n % 7,
        smtp::date(),
        message_id(n),
        "some text\r\n".repeat(n % 300)
    );
    let mut entry = Entry::default();
    for port in ports.iter().cycle().skip(n % ports.len()) {
        let mut sent = false;
        match try_once(*port, &to, message.as_bytes(), &mut sent) {
            Ok(reply) if reply.starts_with("250") => {
                entry.accepted = true;
                return entry;
            }
            Ok(reply) if !reply.starts_with('4') => panic!("a permanent refusal of a good message: {reply}"),
            _ if sent => entry.uncertain += 1,
            _ => {}
        }
        wait::pause();
    }
    entry
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

/// Each message that was taken has one outcome for its recipient, the right one, and arrived; nothing else did.
///
/// # Panics
/// When not.
#[must_use]
pub fn check(lines: &[Value], sink: &Sink, ledger: &HashMap<usize, Entry>) -> Repeated {
    let mut by_message: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for line in lines {
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
        let ids: HashSet<&String> = rows.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), rows.len(), "message {n} has two outcomes: {rows:?}");
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
    Repeated { taken: lost_replies, delivered: redelivered }
}
