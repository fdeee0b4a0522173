//! From events to rows: what one event changes about its recipients. Pure; a store applies it.

use schemas::attempt::{AttemptEvent, Outcome};
use schemas::verdict::{Disposition, MessageSummary, VerdictEvent};
use schemas::{Mailbox, MessageId, Position, Timestamp, Topic};

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Quarantined,
    /// Released, not finished.
    Queued,
    Delivered,
    Failed,
    Removed,
}

impl Standing {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Standing::Quarantined => "quarantined",
            Standing::Queued => "queued",
            Standing::Delivered => "delivered",
            Standing::Failed => "failed",
            Standing::Removed => "removed",
        }
    }

    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        [Self::Quarantined, Self::Queued, Self::Delivered, Self::Failed, Self::Removed]
            .into_iter()
            .find(|s| s.code() == code)
    }
}

/// What one event says of one recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipientChange {
    pub recipient: u32,
    pub forward_path: Mailbox,
    pub standing: Standing,
    pub reply: Option<String>,
    pub remote: Option<String>,
    pub egress: Option<String>,
    /// A try was made.
    pub tried: bool,
    pub deferred: bool,
}

/// What one event changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub message: MessageSummary,
    pub at: Timestamp,
    pub position: Position,
    pub recipients: Vec<RecipientChange>,
    /// All recipients of the message take this standing.
    pub whole_message: Option<Standing>,
}

/// An event's id, whether or not it changes rows: for the index that `trace` reads.
#[must_use]
pub fn message_of(change: &Change) -> MessageId {
    change.message.id
}

/// What a record of `verdicts` or `attempts` changes; none when it concerns no message or does not parse.
#[must_use]
pub fn change_of(position: Position, value: &[u8]) -> Option<Change> {
    match position.topic {
        Topic::Verdicts => verdict(position, serde_json::from_slice(value).ok()?),
        Topic::Attempts => attempt(position, serde_json::from_slice(value).ok()?),
        _ => None,
    }
}

fn verdict(position: Position, event: VerdictEvent) -> Option<Change> {
    let (message, at, recipients, whole_message) = match event {
        VerdictEvent::Judged(verdict) => {
            let standing = match verdict.disposition {
                Disposition::Quarantine => Standing::Quarantined,
                _ => Standing::Queued,
            };
            let change = |(index, path): (usize, Mailbox)| RecipientChange {
                recipient: index as u32,
                forward_path: path,
                standing,
                reply: None,
                remote: None,
                egress: None,
                tried: false,
                deferred: false,
            };
            (
                verdict.message,
                verdict.at,
                verdict.recipients.into_iter().enumerate().map(change).collect(),
                None,
            )
        }
        VerdictEvent::Released { message, at, .. } => (message, at, Vec::new(), Some(Standing::Queued)),
        VerdictEvent::Closed { message, at, confirmed: false, .. } => {
            (message, at, Vec::new(), Some(Standing::Removed))
        }
        VerdictEvent::Closed { message, at, confirmed: true, .. } => (message, at, Vec::new(), None),
        VerdictEvent::Lock { .. } | VerdictEvent::Unknown => return None,
    };
    Some(Change { message, at, position, recipients, whole_message })
}

fn attempt(position: Position, event: AttemptEvent) -> Option<Change> {
    let AttemptEvent::Attempt(attempt) = event else { return None };
    let remote = match (&attempt.remote_host, attempt.remote_address) {
        (Some(host), Some(address)) => Some(format!("{host} [{address}]")),
        (Some(host), None) => Some(host.clone()),
        _ => None,
    };
    let egress = attempt.egress.as_ref().and_then(|egress| egress.ip).map(|ip| ip.to_string());
    let was_tried = attempt.cause == schemas::attempt::AttemptCause::Tried
        || attempt.cause == schemas::attempt::AttemptCause::Expired;
    let change = |result: schemas::attempt::RecipientResult| {
        let standing = match result.outcome {
            Outcome::Delivered => Standing::Delivered,
            Outcome::Failed => Standing::Failed,
            Outcome::Removed => Standing::Removed,
            Outcome::Deferred | Outcome::Unknown => Standing::Queued,
        };
        RecipientChange {
            recipient: result.index,
            forward_path: result.forward_path,
            standing,
            reply: Some(result.reply.to_string()),
            remote: remote.clone(),
            egress: egress.clone(),
            tried: was_tried,
            deferred: result.outcome == Outcome::Deferred,
        }
    };
    let at = attempt.at.plus(std::time::Duration::from_millis(attempt.duration_ms));
    let recipients = attempt.recipients.into_iter().map(change).collect();
    Some(Change { message: attempt.message, at, position, recipients, whole_message: None })
}
