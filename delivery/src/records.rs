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

/// Recipients of one event: what fits into a record, with their replies.
const RECIPIENTS_PER_EVENT: usize = 1000;

/// The attempt as events: one, unless there are more recipients than a record has room for.
pub(crate) fn attempt(mut attempt: Attempt) -> Vec<NewRecord> {
    let mut rest = attempt.recipients.split_off(attempt.recipients.len().min(RECIPIENTS_PER_EVENT));
    let mut parts = vec![attempt];
    while !rest.is_empty() {
        let after = rest.split_off(rest.len().min(RECIPIENTS_PER_EVENT));
        let id = format!("{}/{}", parts[0].id, parts.len() + 1);
        parts.push(Attempt { id, recipients: std::mem::replace(&mut rest, after), ..parts[0].clone() });
    }
    let record = |part: Attempt| {
        let (user, id) = (part.message.user.0.clone(), part.message.id.to_string());
        Some(NewRecord::new(Topic::Attempts, user, id, json(&AttemptEvent::Attempt(part))?))
    };
    parts.into_iter().filter_map(record).collect()
}

pub(crate) fn entry(entry: &QueueEntry) -> Option<NewRecord> {
    let key = queue::key(entry.message.id, &entry.site);
    Some(NewRecord::new(Topic::Queue, queue::lane_key(&entry.node), key, json(entry)?))
}

pub(crate) fn tombstone(node: &str, key: &Key) -> NewRecord {
    NewRecord::tombstone(Topic::Queue, queue::lane_key(node), queue::key(key.0, &key.1))
}

/// A message of our own. One that does not fit is left out and said so: the events it tells of must not wait for it.
pub(crate) fn own_mail(judged: &Judged, message: &[u8]) -> Option<NewRecord> {
    let value = spool::encode(judged, message).ok()?;
    let id = judged.envelope.id;
    let record = NewRecord::new(Topic::Released, UserId::own_mail().0, id.to_string(), value);
    match record.check_size() {
        Ok(()) => Some(record),
        Err(error) => {
            tracing::error!(message.id = %id, %error, "a message of our own is too large");
            None
        }
    }
}
