//! Envelopes and settings for unit tests.

use schemas::envelope::{BodyType, Client, Recipient};
use schemas::settings::{Effective, UserSettings};
use schemas::{Domain, Envelope, Mailbox, MessageId, ReversePath, Timestamp, UserId};

use crate::policy::Policy;

/// 2026-11-24T09:30:00Z
pub(crate) const NOW: Timestamp = Timestamp(1_795_512_600_000);

/// An envelope of the IP user `192.0.2.0/28`; an empty `sender` is the null reverse-path.
pub(crate) fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    Envelope {
        id: MessageId::derived(sender, NOW),
        accepted_at: NOW,
        node: "node1".into(),
        reply_partition: Some(0),
        user: UserId("192.0.2.0/28".into()),
        domain: Domain::parse("customer.example").unwrap(),
        client: Client {
            address: "192.0.2.1:4711".parse().unwrap(),
            helo: "mail.customer.example".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        reverse_path: if sender.is_empty() {
            ReversePath::Null
        } else {
            ReversePath::Mailbox(Mailbox::parse(sender).unwrap())
        },
        recipients: recipients
            .iter()
            .map(|r| Recipient { forward_path: Mailbox::parse(r).unwrap(), notify: None, orcpt: None })
            .collect(),
        ret: None,
        envid: None,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        size_bytes: 0,
        chunks: Vec::new(),
        origin: None,
    }
}

/// The policy of an IP user with these settings, as they stand in `settings.toml` but as JSON.
pub(crate) fn policy(settings: &str) -> Policy {
    let settings: UserSettings = serde_json::from_str(settings).unwrap();
    Policy::of(Effective::of(&[&settings], true), 7)
}

/// Made once for all tests of a run.
pub(crate) fn classifier() -> &'static crate::classifier::Classifier {
    use crate::classifier::Classifier;
    static SHIPPED: std::sync::OnceLock<Classifier> = std::sync::OnceLock::new();
    SHIPPED.get_or_init(|| Classifier::shipped().unwrap())
}
