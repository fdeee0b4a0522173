//! A ledger of numbered messages: what clients were told, against what arrived and what statistics say.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::sink::Sink;
use crate::{smtp, wait};

const KINDS: [&str; 8] = ["ok", "ok", "ok", "refuse", "ok", "defer", "drop", "stall"];
/// Outgoing users, enough for every partition to have some.
const USERS: u8 = 8;
/// Large messages are for the first of a long run only: the receiver remembers everything.
const LARGE_AMONG: usize = 2000;
const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// An outgoing user for each of the clients' addresses.
#[must_use]
pub fn settings() -> String {
    let user = |n: u8| {
        format!(
            "[[domain]]\nname = \"ledger{n}.example\"\n[[outgoing_user]]\ndomain = \"ledger{n}.example\"\n\
             ip = \"127.0.1.{n}/32\"\nidentification = [\"envelope\"]\n"
        )
    };
    (1..=USERS).map(user).collect()
}

/// Message `n`: always the same.
struct Message {
    user: u8,
    from: String,
    recipients: Vec<String>,
    is_spam: bool,
    text: String,
}

fn message(n: usize) -> Message {
    let user = 1 + (n % usize::from(USERS)) as u8;
    let is_spam = n % 40 == 9;
    let mut recipients = vec![format!("{}-{n}@dest{}.example", KINDS[n / 8 % KINDS.len()], n % 5)];
    if n % 6 == 1 {
        recipients.extend(["ok", "refuse"].map(|kind| format!("{kind}-{n}-more@dest{}.example", n % 3)));
    }
    let lines = match n {
        _ if is_spam => format!("{GTUBE}\r\n"),
        // Its body is kept apart from its envelope.
        _ if n % 90 == 5 && n < LARGE_AMONG => "some text\r\n".repeat(100_000),
        _ => "some text\r\n".repeat(n % 300),
    };
    // Each piece of spam from an identity of its own: one that sends two is locked.
    let from =
        if is_spam { format!("spam{n}@ledger{user}.example") } else { format!("app@ledger{user}.example") };
    let text = format!(
        "From: {from}\r\nTo: {}\r\nSubject: number {n}\r\nDate: {}\r\nMessage-ID: <{}>\r\n\r\n{lines}",
        recipients.join(", "),
        smtp::date(),
        message_id(n),
    );
    Message { user, from, recipients, is_spam, text }
}

/// Recipients of the first `messages` messages.
#[must_use]
pub fn recipients(messages: usize) -> usize {
    (0..messages).map(|n| if n % 6 == 1 { 3 } else { 1 }).sum()
}

/// What a client knows of one of its messages.
#[derive(Default)]
pub struct Entry {
    answered: bool,
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

/// Sends message `n` to one port after the other until one takes it; spam, until one refuses or takes it.
///
/// # Panics
/// When a good message is refused for good.
#[must_use]
pub fn send_until_answered(ports: &[u16], n: usize) -> Entry {
    let message = message(n);
    let mut entry = Entry::default();
    for port in ports.iter().cycle().skip(n % ports.len()) {
        let mut sent = false;
        match try_once(*port, &message, &mut sent) {
            Ok(reply) if reply.starts_with("250") || (message.is_spam && reply.starts_with("550")) => {
                entry.answered = true;
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
fn try_once(port: u16, message: &Message, sent: &mut bool) -> std::io::Result<String> {
    let source = Ipv4Addr::new(127, 0, 1, message.user);
    let (mut client, greeting) = smtp::Client::connect_from(source, port)?;
    if !greeting.starts_with("220") {
        return Ok(greeting);
    }
    let envelope = ["EHLO client.example".to_owned(), format!("MAIL FROM:<{}>", message.from)];
    let recipients = message.recipients.iter().map(|to| format!("RCPT TO:<{to}>"));
    for line in envelope.into_iter().chain(recipients).chain(["DATA".to_owned()]) {
        let reply = client.command(&line)?;
        if !reply.starts_with(['2', '3']) {
            return Ok(reply);
        }
    }
    *sent = true;
    client.send(&smtp::stuffed(message.text.as_bytes()))?;
    client.reply()
}

/// Each message that was answered has one outcome for each recipient, the right one, and arrived; nothing else did.
///
/// # Panics
/// When not.
#[must_use]
pub fn check(lines: &[Value], sink: &Sink, ledger: &HashMap<usize, Entry>) -> Repeated {
    // By Message-ID and recipient: the message and its outcome.
    let mut outcomes: HashMap<(String, String), Vec<(String, String)>> = HashMap::new();
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let whose = (text("header_message_id"), text("forward_path"));
        outcomes.entry(whose).or_default().push((text("message_id"), text("outcome")));
    }
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    for received in sink.received() {
        received.recipients.iter().for_each(|r| *arrivals.entry(r.clone()).or_default() += 1);
    }
    let (mut lost_replies, mut redelivered) = (0, 0);
    for (n, entry) in ledger {
        assert!(entry.answered);
        let message = message(*n);
        for (place, to) in message.recipients.iter().enumerate() {
            let rows = outcomes.get(&(message_id(*n), to.clone())).map_or(&[][..], Vec::as_slice);
            let expected = match to {
                _ if message.is_spam => "quarantined",
                to if to.starts_with("refuse") => "failed",
                _ => "delivered",
            };
            assert!(!rows.is_empty(), "message {n} was answered and is not in the log for {to}");
            assert!(
                rows.iter().all(|(_, outcome)| outcome == expected),
                "message {n} to {to}: {rows:?}, expected {expected}"
            );
            assert!(
                rows.len() <= 1 + entry.uncertain,
                "message {n} was taken {} times, with {} replies lost",
                rows.len(),
                entry.uncertain
            );
            let ids: HashSet<&String> = rows.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), rows.len(), "message {n} has two outcomes for {to}: {rows:?}");
            if place == 0 {
                lost_replies += rows.len() - 1;
            }
            let arrived = arrivals.get(to).copied().unwrap_or(0);
            if expected != "delivered" {
                assert_eq!(arrived, 0, "message {n} to {to} is {expected}, and is there");
                continue;
            }
            let delivered = rows.len();
            assert!(arrived >= delivered, "message {n} to {to}: {delivered} in the log, {arrived} arrived");
            redelivered += arrived - delivered;
        }
    }
    Repeated { taken: lost_replies, delivered: redelivered }
}
