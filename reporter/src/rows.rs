//! From events to rows: what one event changes about its recipients. Pure; a store applies it.

use std::time::Duration;

use schemas::attempt::{Attempt, AttemptCause, AttemptEvent, Outcome, RecipientResult};
use schemas::verdict::{Disposition, MessageSummary, Verdict, VerdictEvent};
use schemas::{Mailbox, Position, Timestamp, Topic};

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

    /// `true` when delivery is over.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Removed)
    }
}

/// What one event says of one recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipientChange {
    pub recipient: u32,
    pub forward_path: Mailbox,
    pub standing: Standing,
    /// From a verdict, not from an attempt.
    pub is_verdict: bool,
    pub reply: Option<String>,
    pub remote: Option<String>,
    pub egress: Option<String>,
    /// A try was made.
    pub tried: bool,
    pub deferred: bool,
}

impl RecipientChange {
    /// Where the recipient stands after this event. Verdicts and attempts are two topics, so either may be read first:
    /// neither a verdict nor a deferral takes an outcome back.
    #[must_use]
    pub fn standing_after(&self, before: Option<Standing>) -> Standing {
        let is_outcome = self.standing.is_finished() && !self.is_verdict;
        match before {
            Some(before) if before.is_finished() && !is_outcome => before,
            _ => self.standing,
        }
    }
}

/// What one event changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub message: MessageSummary,
    /// Unique within the message.
    pub event_id: String,
    pub at: Timestamp,
    pub position: Position,
    pub recipients: Vec<RecipientChange>,
    /// Those recipients of the message that are in quarantine take this standing.
    pub whole_message: Option<Standing>,
}

/// What a record of `verdicts` or `attempts` changes; none when it concerns no message.
///
/// # Errors
/// When the value is no event.
pub fn change_of(position: Position, value: &[u8]) -> Result<Option<Change>, serde_json::Error> {
    Ok(match position.topic {
        Topic::Verdicts => of_verdict_event(position, serde_json::from_slice(value)?),
        Topic::Attempts => match serde_json::from_slice(value)? {
            AttemptEvent::Attempt(attempt) => Some(of_attempt(position, attempt)),
            AttemptEvent::Unknown => None,
        },
        _ => None,
    })
}

fn of_verdict_event(position: Position, event: VerdictEvent) -> Option<Change> {
    let change = |message, event_id, at, whole_message| Change {
        message,
        event_id,
        at,
        position,
        recipients: Vec::new(),
        whole_message,
    };
    match event {
        VerdictEvent::Judged(verdict) => Some(of_verdict(position, verdict)),
        VerdictEvent::Released { message, at, command_id, .. } => {
            Some(change(message, format!("released/{command_id}"), at, Some(Standing::Queued)))
        }
        VerdictEvent::Closed { message, at, command_id, confirmed, .. } => {
            // What is confirmed as spam stays where it is.
            let standing = (!confirmed).then_some(Standing::Removed);
            Some(change(message, format!("closed/{command_id}"), at, standing))
        }
        VerdictEvent::Lock { .. } | VerdictEvent::Unknown => None,
    }
}

fn of_verdict(position: Position, verdict: Verdict) -> Change {
    let standing = match verdict.disposition {
        Disposition::Quarantine => Standing::Quarantined,
        Disposition::Release | Disposition::Hold | Disposition::Unknown => Standing::Queued,
    };
    let recipient = |(index, forward_path): (usize, Mailbox)| RecipientChange {
        recipient: index as u32,
        forward_path,
        standing,
        is_verdict: true,
        reply: None,
        remote: None,
        egress: None,
        tried: false,
        deferred: false,
    };
    Change {
        // A message that was held is judged again when it is let go.
        event_id: format!("judged/{}", verdict.at.0),
        at: verdict.at,
        position,
        recipients: verdict.recipients.into_iter().enumerate().map(recipient).collect(),
        whole_message: None,
        message: verdict.message,
    }
}

fn of_attempt(position: Position, attempt: Attempt) -> Change {
    let remote = match (&attempt.remote_host, attempt.remote_address) {
        (Some(host), Some(address)) => Some(format!("{host} [{address}]")),
        (Some(host), None) => Some(host.clone()),
        _ => None,
    };
    let egress = attempt.egress.as_ref().and_then(|egress| egress.ip).map(|ip| ip.to_string());
    let tried = matches!(attempt.cause, AttemptCause::Tried | AttemptCause::Expired);
    let recipient = |result: RecipientResult| RecipientChange {
        recipient: result.index,
        forward_path: result.forward_path,
        standing: match result.outcome {
            Outcome::Delivered => Standing::Delivered,
            Outcome::Failed => Standing::Failed,
            Outcome::Removed => Standing::Removed,
            Outcome::Deferred | Outcome::Unknown => Standing::Queued,
        },
        is_verdict: false,
        reply: Some(result.reply.to_string()),
        remote: remote.clone(),
        egress: egress.clone(),
        tried,
        deferred: result.outcome == Outcome::Deferred,
    };
    Change {
        at: attempt.at.plus(Duration::from_millis(attempt.duration_ms)),
        event_id: attempt.id,
        position,
        recipients: attempt.recipients.into_iter().map(recipient).collect(),
        whole_message: None,
        message: attempt.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(standing: Standing, is_verdict: bool) -> RecipientChange {
        RecipientChange {
            recipient: 0,
            forward_path: Mailbox::parse("a@one.example").unwrap(),
            standing,
            is_verdict,
            reply: None,
            remote: None,
            egress: None,
            tried: !is_verdict,
            deferred: false,
        }
    }

    #[test]
    fn an_outcome_is_taken_back_by_another_outcome_only() {
        use Standing::{Delivered, Failed, Quarantined, Queued, Removed};
        for (before, event, is_verdict, after) in [
            (None, Quarantined, true, Quarantined),
            (Some(Queued), Quarantined, true, Quarantined),
            (Some(Quarantined), Queued, false, Queued),
            (Some(Queued), Delivered, false, Delivered),
            (Some(Delivered), Queued, true, Delivered),
            (Some(Delivered), Quarantined, true, Delivered),
            (Some(Delivered), Queued, false, Delivered),
            (Some(Failed), Delivered, false, Delivered),
            (Some(Removed), Queued, true, Removed),
        ] {
            assert_eq!(says(event, is_verdict).standing_after(before), after, "{before:?} {event:?}");
        }
    }

    #[test]
    fn what_is_no_event_is_told_and_what_is_of_later_versions_is_passed_over() {
        let at = Position { topic: Topic::Verdicts, partition: 0, offset: 0 };
        assert!(change_of(at, b"{").is_err());
        assert!(change_of(at, br#"{"type":"a_later_one","x":1}"#).unwrap().is_none());
        let at = Position { topic: Topic::Attempts, ..at };
        assert!(change_of(at, br#"{"type":"a_later_one"}"#).unwrap().is_none());
    }
}
