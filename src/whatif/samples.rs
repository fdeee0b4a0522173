//! Verdicts and policies for unit tests.

use std::time::Duration;

use schemas::envelope::Client;
use schemas::settings::{Effective, UserSettings};
use schemas::verdict::{Basis, Classification, Disposition, Identity, MessageSummary, Verdict};
use schemas::{Domain, Mailbox, MessageId, Position, ReversePath, Timestamp, Topic, UserId};
use scorer::policy::Policy;

/// 2026-11-24T09:30:00Z
pub const START: Timestamp = Timestamp(1_795_512_600_000);

/// Accepted so many minutes after the start.
pub fn verdict(user: &str, minute: u64, classification: Classification) -> Verdict {
    let accepted_at = START.plus(Duration::from_secs(minute * 60));
    let is_spam = classification == Classification::Spam;
    let sender = Mailbox::parse("a@b.example").unwrap();
    Verdict {
        message: MessageSummary {
            id: MessageId::derived(&format!("{user} {minute}"), accepted_at),
            accepted_at,
            user: UserId(user.into()),
            domain: Domain::parse("b.example").unwrap(),
            identity: Identity("a@b.example".into()),
            reverse_path: ReversePath::Mailbox(sender.clone()),
            header_from: None,
            classification,
            observed_as: None,
            size_bytes: 100,
            header_message_id: None,
            client_queue_id: None,
            subject: Some("Hi".into()),
            own: false,
            forwarded: false,
        },
        at: accepted_at,
        disposition: if is_spam { Disposition::Quarantine } else { Disposition::Release },
        score: 0.5,
        symbols: Vec::new(),
        identity_source: "envelope".into(),
        policy_version: 1,
        model_version: None,
        client: Client {
            address: "192.0.2.1:4711".parse().unwrap(),
            helo: "mail.b.example".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        recipients: vec![sender],
        accepted: Position { topic: Topic::Accepted, partition: 0, offset: 0 },
        basis: Some(Basis { spam: 0.968, suspect: 0.48, ..Basis::default() }),
    }
}

/// Settings as they stand in `settings.toml`, but as JSON.
pub fn policy(settings: &str) -> Policy {
    let settings: UserSettings = serde_json::from_str(settings).unwrap();
    Policy::of(Effective::of(&[&settings], true), 7)
}
