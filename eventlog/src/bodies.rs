//! Messages too large for one record: chunks in `bodies`, named by position in the envelope.

use bytes::{Bytes, BytesMut};
use schemas::topics::MAX_VALUE_BYTES;
use schemas::{Envelope, MessageId, Position, Topic};

use crate::{EventLog, LogError, NewRecord};

/// A record of `bodies` for chunk number `index` of a message.
#[must_use]
pub fn chunk(message_id: MessageId, index: usize, bytes: Bytes) -> NewRecord {
    debug_assert!(bytes.len() <= MAX_VALUE_BYTES);
    NewRecord::new(Topic::Bodies, message_id.to_string(), format!("{message_id}\0{index}"), bytes)
}

/// The whole message of an envelope: `inline` when it stands in the envelope's own record, else its chunks joined.
///
/// # Errors
/// `Damaged` when a chunk is gone; what `read` says.
pub async fn load(log: &dyn EventLog, envelope: &Envelope, inline: Bytes) -> Result<Bytes, LogError> {
    if envelope.chunks.is_empty() {
        return Ok(inline);
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(envelope.size_bytes).unwrap_or(0));
    for position in &envelope.chunks {
        whole.extend_from_slice(&read_chunk(log, *position).await?);
    }
    Ok(whole.freeze())
}

async fn read_chunk(log: &dyn EventLog, position: Position) -> Result<Bytes, LogError> {
    log.read(position)
        .await?
        .and_then(|record| record.value)
        .ok_or_else(|| LogError::Damaged { position, detail: "a chunk of a message is gone".into() })
}
