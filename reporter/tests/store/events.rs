//! Events as the scorer and delivery write them, and the changes they make.

use std::time::Duration;

use reporter::rows::{self, Change};
use reporter::store::{Batch, Covered};
use schemas::attempt::{Attempt, AttemptCause, AttemptEvent, Egress, Outcome, RecipientResult};
use schemas::envelope::Client;
use schemas::verdict::{
    Classification, Disposition, Identity, MessageSummary, Symbol, Verdict, VerdictEvent,
};
use schemas::{Domain, Mailbox, MessageId, Position, ReversePath, SmtpReply, Timestamp, Topic, UserId};

pub const START: Timestamp = Timestamp(1_795_512_600_000);

pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

pub fn summary(number: u32, classification: Classification) -> MessageSummary {
    let accepted_at = START.plus(Duration::from_secs(u64::from(number)));
    MessageSummary {
        id: MessageId::derived(&format!("message {number}"), accepted_at),
        accepted_at,
        user: UserId("192.0.2.0/28".into()),
        domain: Domain::parse("customer.example").unwrap(),
        identity: Identity(format!("shop{}@customer.example", number % 3)),
        reverse_path: ReversePath::Mailbox(mailbox("shop@customer.example")),
        header_from: Some(Domain::parse("customer.example").unwrap()),
        classification,
        observed_as: None,
        size_bytes: 10_000,
        header_message_id: Some(format!("m{number}@customer.example")),
        client_queue_id: Some(format!("4QwErT{number:06}")),
        subject: Some("Your order".into()),
        own: false,
        forwarded: false,
    }
}

pub fn judged(message: &MessageSummary, recipients: &[&str]) -> VerdictEvent {
    let is_quarantined = message.classification.is_abuse();
    VerdictEvent::Judged(Verdict {
        message: message.clone(),
        at: message.accepted_at.plus(Duration::from_millis(5)),
        disposition: if is_quarantined { Disposition::Quarantine } else { Disposition::Release },
        score: 0.5,
        symbols: vec![Symbol { name: "GTUBE".into(), weight: 1.0, evidence: "the test string".into() }],
        identity_source: "header:X-AuthUser".into(),
        policy_version: 3,
        model_version: None,
        client: Client {
            address: "192.0.2.1:40000".parse().unwrap(),
            helo: "mail.customer.example".into(),
            protocol: "ESMTP".into(),
            login: None,
            tls: None,
        },
        recipients: recipients.iter().map(|r| mailbox(r)).collect(),
        accepted: Position { topic: Topic::Accepted, partition: 0, offset: 0 },
        basis: None,
    })
}

pub fn released(message: &MessageSummary) -> VerdictEvent {
    let at = message.accepted_at.plus(Duration::from_secs(60));
    VerdictEvent::Released { message: message.clone(), by: "root".into(), at, command_id: "c1".into() }
}

pub fn closed(message: &MessageSummary, confirmed: bool) -> VerdictEvent {
    let at = message.accepted_at.plus(Duration::from_secs(90));
    VerdictEvent::Closed {
        message: message.clone(),
        by: "root".into(),
        at,
        command_id: "c2".into(),
        confirmed,
    }
}

/// Try `number` at all of `recipients`, which stand at the indexes given.
pub fn attempt(
    message: &MessageSummary,
    number: u32,
    outcome: Outcome,
    recipients: &[(u32, &str)],
) -> AttemptEvent {
    let code = match outcome {
        Outcome::Delivered => 250,
        Outcome::Deferred => 451,
        _ => 550,
    };
    let result = |(index, path): &(u32, &str)| RecipientResult {
        index: *index,
        forward_path: mailbox(path),
        outcome,
        reply: SmtpReply { code, enhanced: None, text: format!("try {number}") },
        local: false,
        next_attempt: None,
    };
    let removed = outcome == Outcome::Removed;
    AttemptEvent::Attempt(Attempt {
        id: if removed { format!("{}/x/removed", message.id) } else { format!("{}/x/{number}", message.id) },
        message: message.clone(),
        node: "node1".into(),
        site: "x".into(),
        at: message.accepted_at.plus(Duration::from_secs(100 + 100 * u64::from(number))),
        duration_ms: 250,
        number,
        cause: if removed { AttemptCause::Removed } else { AttemptCause::Tried },
        remote_host: Some("mx.elsewhere.example".into()),
        remote_address: Some("198.51.100.7:25".parse().unwrap()),
        egress: Some(Egress {
            ip: "192.0.2.200".parse().ok(),
            ehlo: "out1.hoster.example".into(),
            pool: None,
        }),
        tls: None,
        tls_note: None,
        signatures: Vec::new(),
        recipients: recipients.iter().map(result).collect(),
    })
}

/// A log of one partition per topic that gives each event its place, and batches of it.
#[derive(Clone, Default)]
pub struct Events {
    pub changes: Vec<Change>,
    verdicts: u64,
    attempts: u64,
}

impl Events {
    pub fn verdict(&mut self, event: &VerdictEvent) {
        let position = Position { topic: Topic::Verdicts, partition: 0, offset: self.verdicts };
        self.verdicts += 1;
        self.changes.extend(rows::change_of(position, &serde_json::to_vec(event).unwrap()).unwrap());
    }

    pub fn attempt(&mut self, event: &AttemptEvent) {
        let position = Position { topic: Topic::Attempts, partition: 0, offset: self.attempts };
        self.attempts += 1;
        self.changes.extend(rows::change_of(position, &serde_json::to_vec(event).unwrap()).unwrap());
    }

    /// Everything, as one batch.
    pub fn batch(&self) -> Batch {
        batch(self.changes.clone())
    }
}

/// A batch of changes that says of the log before it only that it begins there.
pub fn batch(changes: Vec<Change>) -> Batch {
    let mut covered: Vec<Covered> = Vec::new();
    for change in &changes {
        let (at, offset) = (change.position.topic_partition(), change.position.offset);
        match covered.iter_mut().find(|c| c.at == at) {
            Some(c) => (c.from, c.next) = (c.from.min(offset), c.next.max(offset + 1)),
            None => covered.push(Covered { at, from: offset, next: offset + 1 }),
        }
    }
    Batch { changes, covered }
}
