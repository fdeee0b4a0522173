//! One message's whole story: its events, read from the log at the positions the store remembers.

use eventlog::{Log, LogError, Record};
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
    /// The event; absent, as `attempt` is then, when its retention is over or it cannot be read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptEvent>,
}

pub(crate) async fn read(
    log: &Log,
    message_id: &str,
    events: Vec<(Timestamp, Position)>,
) -> Result<Vec<TraceEvent>, Error> {
    let mut trace = Vec::with_capacity(events.len());
    for (at, position) in events {
        let record = match log.read(position).await {
            Err(LogError::Damaged { position, detail }) => {
                tracing::error!(%position, detail, "an event of a trace is damaged");
                None
            }
            // On a log that was moved there may be fewer.
            Err(LogError::NoSuchPartition { .. }) => None,
            record => record?,
        };
        trace.push(event(at, position, message_id, record.as_ref()));
    }
    Ok(trace)
}

fn event(at: Timestamp, position: Position, message_id: &str, record: Option<&Record>) -> TraceEvent {
    let mut event = TraceEvent { at, position, verdict: None, attempt: None };
    // On a log that was restored or moved another record may have taken the place.
    let Some(value) = record
        .filter(|record| record.key == message_id.as_bytes())
        .and_then(|record| record.value.as_deref())
    else {
        return event;
    };
    match position.topic {
        Topic::Verdicts => event.verdict = serde_json::from_slice(value).ok(),
        Topic::Attempts => event.attempt = serde_json::from_slice(value).ok(),
        _ => {}
    }
    event
}
