//! One message's whole story: its events, read from the log at the positions the store remembers.

use eventlog::{Log, Record};
use schemas::attempt::AttemptEvent;
use schemas::verdict::VerdictEvent;
use schemas::{Position, Timestamp, Topic};
use serde::{Deserialize, Serialize};

use crate::Error;

/// An event of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TraceEvent {
    pub at: Timestamp,
    pub position: Position,
    /// The event; absent when its retention is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptEvent>,
}

pub(crate) async fn read(log: &Log, events: Vec<(Timestamp, Position)>) -> Result<Vec<TraceEvent>, Error> {
    let mut trace = Vec::with_capacity(events.len());
    for (at, position) in events {
        let record = log.read(position).await?;
        trace.push(event(at, position, record.as_ref()));
    }
    Ok(trace)
}

fn event(at: Timestamp, position: Position, record: Option<&Record>) -> TraceEvent {
    let value = record.and_then(|record| record.value.as_deref());
    let mut event = TraceEvent { at, position, verdict: None, attempt: None };
    match position.topic {
        Topic::Verdicts => event.verdict = value.and_then(|value| serde_json::from_slice(value).ok()),
        Topic::Attempts => event.attempt = value.and_then(|value| serde_json::from_slice(value).ok()),
        _ => {}
    }
    event
}
