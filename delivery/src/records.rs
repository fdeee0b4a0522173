//! The records that delivery writes.

use bytes::Bytes;
use eventlog::NewRecord;
use schemas::attempt::{Attempt, AttemptEvent};
use schemas::queue::{self, QueueEntry};
use schemas::verdict::Judged;
use schemas::{Topic, UserId, spool};

use crate::site::Key;

/// A value as JSON. Our own types serialise; should one not, the record is left out and said so.
fn json<T: serde::Serialize>(value: &T) -> Option<Bytes> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            None
        }
    }
}

pub(crate) fn attempt(attempt: Attempt) -> Option<NewRecord> {
    let (user, id) = (attempt.message.user.0.clone(), attempt.message.id.to_string());
    Some(NewRecord::new(Topic::Attempts, user, id, json(&AttemptEvent::Attempt(attempt))?))
}

pub(crate) fn entry(entry: &QueueEntry) -> Option<NewRecord> {
    let key = queue::key(entry.message.id, &entry.site);
    Some(NewRecord::new(Topic::Queue, queue::lane_key(&entry.node), key, json(entry)?))
}

pub(crate) fn tombstone(node: &str, key: &Key) -> NewRecord {
    NewRecord::tombstone(Topic::Queue, queue::lane_key(node), queue::key(key.0, &key.1))
}

/// A message of our own.
pub(crate) fn own_mail(judged: &Judged, message: &[u8]) -> Option<NewRecord> {
    let value = spool::encode(judged, message).ok()?;
    Some(NewRecord::new(Topic::Released, UserId::own_mail().0, judged.envelope.id.to_string(), value))
}
