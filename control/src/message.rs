//! A message as it stands in the log.

use bytes::Bytes;
use eventlog::{Log, bodies};
use schemas::envelope::Envelope;
use schemas::verdict::{Judged, Symbol};
use schemas::{Position, Topic, spool};

use crate::Error;

/// A message, what its client said of it, and what the scorer said.
pub struct StoredMessage {
    pub envelope: Envelope,
    pub score: Option<f32>,
    pub symbols: Vec<Symbol>,
    /// Byte for byte as it came.
    pub content: Bytes,
}

/// The message at a position in `quarantined`, `released` or `accepted`.
///
/// # Errors
/// `NotFound` when it is no longer there; what the log says.
pub async fn read(log: &Log, position: Position, with_content: bool) -> Result<StoredMessage, Error> {
    let gone = || {
        Error::not_found(
            format!("the message at {position} is gone: its retention is over"),
            "nothing can bring it back; the verdict about it is kept for 90 days, see `mailweir trace`",
        )
    };
    let value = log.read(position).await?.and_then(|record| record.value).ok_or_else(gone)?;
    let damaged = |error: spool::SpoolError| {
        Error::Internal(format!("the record at {position} does not parse: {error}"))
    };
    let mut message = if position.topic == Topic::Accepted {
        let (envelope, content) = spool::decode::<Envelope>(&value).map_err(damaged)?;
        StoredMessage { envelope, score: None, symbols: Vec::new(), content }
    } else {
        let (judged, content) = spool::decode::<Judged>(&value).map_err(damaged)?;
        StoredMessage {
            envelope: judged.envelope,
            score: Some(judged.score),
            symbols: judged.symbols,
            content,
        }
    };
    if with_content {
        message.content = bodies::load(log.as_ref(), &message.envelope, message.content).await?;
    }
    Ok(message)
}
