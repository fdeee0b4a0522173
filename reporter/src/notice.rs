//! The notice that a sender was locked by itself: a message of our own to the abuse address.

use std::fmt::Write;

use bytes::Bytes;
use schemas::envelope::{BodyType, Origin};
use schemas::own_mail::OwnMail;
use schemas::senders::BlockedMessage;
use schemas::unlock_link::UnlockLink;
use schemas::verdict::{Identity, Judged};
use schemas::{Domain, Mailbox, MessageId, Timestamp, UserId};

use crate::UnlockLinks;
use crate::arf::lines::{clean, encoded};

/// A lock that people are told about.
pub struct Lock<'a> {
    pub user: &'a UserId,
    pub domain: &'a Domain,
    /// Absent: the whole user is locked.
    pub identity: Option<&'a Identity>,
    pub at: Timestamp,
    pub reason: &'a str,
    /// The messages that led to it.
    pub evidence: &'a [BlockedMessage],
}

/// Where it comes from and where it goes.
pub struct Letter<'a> {
    pub to: &'a Mailbox,
    pub from: &'a Mailbox,
    pub hostname: &'a str,
    pub node: &'a str,
    pub links: Option<&'a UnlockLinks>,
    /// Notices to this address that were left out before it.
    pub left_out: u64,
}

/// The notice. The same lock always gives the same one, but for the number of those left out.
#[must_use]
pub fn build(lock: &Lock<'_>, letter: &Letter<'_>) -> (Judged, Bytes) {
    let whose = lock.identity.map_or_else(|| lock.user.to_string(), ToString::to_string);
    let event = format!("lock/{}/{}/{}", lock.user, lock.identity.map_or("", |i| i.0.as_str()), lock.at.0);
    let id = MessageId::derived(&event, lock.at);
    let subject = format!("Locked: {}", clean(&whose));
    let bytes = Bytes::from(text(lock, letter, id, &subject));
    let judged = OwnMail {
        id,
        at: lock.at,
        node: letter.node,
        hostname: letter.hostname,
        domain: lock.domain,
        header_from: Some(letter.from.domain().clone()),
        to: letter.to,
        subject,
        origin: Origin::Notice { event },
        body_type: if bytes.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        smtputf8: letter.to.needs_smtputf8() || letter.from.needs_smtputf8(),
        size_bytes: bytes.len(),
    }
    .judged();
    (judged, bytes)
}

fn text(lock: &Lock<'_>, letter: &Letter<'_>, id: MessageId, subject: &str) -> String {
    let hostname = letter.hostname;
    let (what, target) = match lock.identity {
        Some(identity) => (
            format!("The identity {} of the outgoing user {} was locked.", clean(&identity.0), lock.user),
            format!("{} --identity {}", quoted(&lock.user.0), quoted(&identity.0)),
        ),
        None => (format!("The outgoing user {} was locked.", lock.user), quoted(&lock.user.0)),
    };
    let body = format!(
        "{what}\r\n\r\n\
         Domain: {}\r\nSince:  {}\r\nWhy:    {}\r\n\r\n\
         {}Its mail is refused for now, and what it still has in the queue waits. To see what was blocked, and to\r\n\
         unlock it when its cause is gone:\r\n\r\n\
         \x20   mailweir quarantine --user {}\r\n\
         \x20   mailweir unlock {target}\r\n{}{}",
        lock.domain,
        lock.at.rfc3339(),
        clean(lock.reason),
        evidence(lock.evidence),
        quoted(&lock.user.0),
        link(lock, letter),
        left_out(letter.left_out),
    );
    let encoding = if body.is_ascii() { "7bit" } else { "8bit" };
    format!(
        "From: Mailweir <{}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n{body}",
        letter.from,
        letter.to,
        encoded(subject),
        lock.at.rfc5322(),
    )
}

fn evidence(blocked: &[BlockedMessage]) -> String {
    if blocked.is_empty() {
        return String::new();
    }
    let mut text = String::from("The last messages that were blocked:\r\n\r\n");
    for message in blocked {
        let _ =
            write!(text, "    {}  {}  ref {}\r\n", message.at.rfc3339(), message.classification, message.id);
        for (name, value) in [("Subject", &message.subject), ("Found", &message.why)] {
            if !value.is_empty() {
                let _ = write!(text, "        {name}: {}\r\n", clean(value));
            }
        }
    }
    text.push_str("\r\n");
    text
}

/// Opening it shows a page; only the button there unlocks, so that a scanner that follows links does not.
fn link(lock: &Lock<'_>, letter: &Letter<'_>) -> String {
    let Some(links) = letter.links else { return String::new() };
    let link = UnlockLink {
        user: lock.user.clone(),
        domain: lock.domain.clone(),
        identity: lock.identity.cloned(),
        since: lock.at,
        to: letter.to.clone(),
    };
    format!(
        "\r\nOr open this within 24 hours and press the button:\r\n\r\n{}/unlock/{}\r\n",
        links.public_url,
        link.token(&links.key)
    )
}

fn left_out(notices: u64) -> String {
    match notices {
        0 => String::new(),
        _ => format!(
            "\r\n{notices} earlier notices to this address were left out; all locks: mailweir identities\r\n"
        ),
    }
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let text = clean(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._+-/:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use schemas::sealed::ClusterKey;
    use schemas::verdict::Classification;

    use super::*;

    #[test]
    fn a_notice_says_who_why_and_what_to_do_and_nothing_gets_out_of_its_line() {
        let (user, domain) =
            (UserId("192.0.2.0/28".into()), Domain::parse("server.example").expect("a domain"));
        let identity = Identity("x'; rm -rf /\r\nBcc: a@b".into());
        let mailbox = Mailbox::parse("abuse@hoster.example").expect("a mailbox");
        let lock = Lock {
            user: &user,
            domain: &domain,
            identity: Some(&identity),
            at: Timestamp(1_795_512_600_000),
            reason: "5 messages blocked",
            evidence: &[BlockedMessage {
                id: MessageId::derived("x", Timestamp(1_795_512_600_000)),
                at: Timestamp(1_795_512_600_000),
                classification: Classification::Spam,
                subject: "You\r\nBcc: won".into(),
                why: "CONTENT 0.99".into(),
            }],
        };
        let key = ClusterKey::from_file_content(&ClusterKey::generate()).expect("a key");
        let links = UnlockLinks { public_url: "https://relay.example".into(), key };
        let mut letter = Letter {
            to: &mailbox,
            from: &mailbox,
            hostname: "relay.example",
            node: "node1",
            links: None,
            left_out: 0,
        };
        let (judged, bytes) = build(&lock, &letter);
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        assert!(
            text.contains("5 messages blocked")
                && text.contains(r"mailweir unlock 192.0.2.0/28 --identity 'x'\''; rm -rf /")
        );
        assert!(!text.contains("\nBcc:"), "{text}");
        assert!(text.contains("Found: CONTENT 0.99") && !text.contains("/unlock/"), "{text}");
        letter.links = Some(&links);
        let linked = String::from_utf8(build(&lock, &letter).1.to_vec()).expect("text");
        let token = linked.lines().find_map(|line| line.strip_prefix("https://relay.example/unlock/"));
        let link = UnlockLink::from_token(token.expect("a link"), &links.key).expect("ours");
        assert_eq!((link.since, link.identity.as_ref()), (lock.at, lock.identity));
        assert!(linked.lines().all(|line| line.len() < 998));
        assert!(judged.message.own && judged.envelope.reverse_path.is_null());
        assert_eq!(build(&lock, &letter).0.envelope.id, judged.envelope.id);
    }
}
