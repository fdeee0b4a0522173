//! What each record becomes on the target: where it goes there, and what it points to. Pure.

use bytes::Bytes;
use eventlog::{NewRecord, Partitioning, Record};
use schemas::attempt::AttemptEvent;
use schemas::commands::{Action, Command};
use schemas::quarantine::QuarantineRow;
use schemas::queue::{self, QueueEntry};
use schemas::senders::HoldRow;
use schemas::verdict::{Judged, VerdictEvent};
use schemas::{Envelope, Timestamp, Topic, spool};

use super::places::Places;

type Carried = Result<NewRecord, Unreadable>;

/// A record that nobody can read: who meets it passes it over, so it stays behind.
#[derive(Debug, thiserror::Error)]
#[error("it does not parse: {0}")]
pub(super) struct Unreadable(String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Unreadable(error.to_string())
    }
}

impl From<spool::SpoolError> for Unreadable {
    fn from(error: spool::SpoolError) -> Self {
        Unreadable(error.to_string())
    }
}

fn value(record: &Record) -> &[u8] {
    record.value.as_deref().unwrap_or_default()
}

/// The record with another value, where its key to a partition puts it.
fn with(record: &Record, by: impl Into<Bytes>, value: impl Into<Bytes>) -> NewRecord {
    NewRecord::new(record.position.topic, by, record.key.clone(), value)
}

/// Byte for byte.
fn same(record: &Record, by: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        topic: record.position.topic,
        partitioning: Partitioning::By(by.into()),
        key: record.key.clone(),
        value: record.value.clone(),
    }
}

/// A record that is partitioned by its own key, or that has only one partition to go to.
pub(super) fn by_key(record: &Record) -> NewRecord {
    same(record, record.key.clone())
}

/// A message in `accepted`. Nobody waits for its verdict any more.
pub(super) fn accepted(record: &Record, places: &Places) -> Carried {
    let (mut envelope, message): (Envelope, Bytes) = spool::decode(&bytes_of(record))?;
    envelope.reply_partition = None;
    move_chunks(&mut envelope, places);
    Ok(with(record, envelope.user.0.clone(), spool::encode(&envelope, &message)?))
}

/// A message in `released` or `quarantined`. `kept`: a queue entry owns its delivery.
pub(super) fn judged(record: &Record, places: &Places, kept: bool) -> Carried {
    let (mut judged, message): (Judged, Bytes) = spool::decode(&bytes_of(record))?;
    judged.kept |= kept;
    move_chunks(&mut judged.envelope, places);
    Ok(with(record, judged.envelope.user.0.clone(), spool::encode(&judged, &message)?))
}

fn bytes_of(record: &Record) -> Bytes {
    record.value.clone().unwrap_or_default()
}

fn move_chunks(envelope: &mut Envelope, places: &Places) {
    for chunk in &mut envelope.chunks {
        *chunk = places.of(*chunk);
    }
}

/// The chunks of a message in one of the three topics.
pub(super) fn chunks(record: &Record) -> Result<Vec<schemas::Position>, Unreadable> {
    Ok(match record.position.topic {
        Topic::Accepted => spool::decode::<Envelope>(&bytes_of(record))?.0.chunks,
        _ => spool::decode::<Judged>(&bytes_of(record))?.0.envelope.chunks,
    })
}

/// A chunk: by its message, which stands before the NUL of its key.
pub(super) fn chunk(record: &Record) -> NewRecord {
    same(record, first_part(&record.key))
}

fn first_part(key: &Bytes) -> Bytes {
    key.slice(..key.iter().position(|byte| *byte == 0).unwrap_or(key.len()))
}

/// A row of `queue`; `stored_at` is when its message was written.
pub(super) fn queue_entry(record: &Record, places: &Places, stored_at: Timestamp) -> Carried {
    let entry: QueueEntry = serde_json::from_slice(value(record))?;
    let entry = QueueEntry { position: places.of(entry.position), stored_at, ..entry };
    Ok(with(record, queue::lane_key(&entry.node), serde_json::to_vec(&entry)?))
}

pub(super) fn quarantine_row(record: &Record, places: &Places) -> Carried {
    let row: QuarantineRow = serde_json::from_slice(value(record))?;
    let row = QuarantineRow { position: places.of(row.position), ..row };
    Ok(with(record, row.message.user.0.clone(), serde_json::to_vec(&row)?))
}

/// A row of `senders`: counters, locks and histories as they are, a hold with the new place of its message.
pub(super) fn sender(record: &Record, places: &Places, stored_at: Timestamp) -> Carried {
    let Some(row) = hold(record)? else { return Ok(same(record, first_part(&record.key))) };
    let row = HoldRow { position: places.of(row.position), stored_at, ..row };
    Ok(with(record, row.message.user.0.clone(), serde_json::to_vec(&row)?))
}

/// The hold that a row of `senders` is, if it is one.
pub(super) fn hold(record: &Record) -> Result<Option<HoldRow>, Unreadable> {
    use schemas::senders::{Kind, kind_of_key};
    match kind_of_key(&record.key) {
        Some(Kind::Hold(..)) => Ok(Some(serde_json::from_slice(value(record))?)),
        _ => Ok(None),
    }
}

/// An event of `verdicts`. One that is still to be reported has its message in tow.
pub(super) fn verdict(record: &Record, places: &Places) -> Carried {
    let mut event: VerdictEvent = serde_json::from_slice(value(record))?;
    let user = match &mut event {
        VerdictEvent::Judged(verdict) if places.has(verdict.accepted) => {
            verdict.accepted = places.of(verdict.accepted);
            let user = verdict.message.user.0.clone();
            return Ok(with(record, user, serde_json::to_vec(&event)?));
        }
        VerdictEvent::Judged(verdict) => verdict.message.user.0.clone(),
        VerdictEvent::Released { message, .. } | VerdictEvent::Closed { message, .. } => {
            message.user.0.clone()
        }
        VerdictEvent::Lock { user, .. } => user.0.clone(),
        VerdictEvent::Unknown => return Ok(by_key(record)),
    };
    Ok(same(record, user))
}

/// Where the message of a verdict stands about which somebody may still have to be told.
pub(super) fn told_about(record: &Record) -> Option<schemas::Position> {
    match serde_json::from_slice(value(record)).ok()? {
        VerdictEvent::Judged(verdict) if verdict.disposition == schemas::verdict::Disposition::Quarantine => {
            Some(verdict.accepted)
        }
        _ => None,
    }
}

pub(super) fn attempt(record: &Record) -> Carried {
    Ok(match serde_json::from_slice(value(record))? {
        AttemptEvent::Attempt(attempt) => same(record, attempt.message.user.0),
        AttemptEvent::Unknown => by_key(record),
    })
}

/// A command that its owner has not come to. Nobody waits for the answer any more.
pub(super) fn command(record: &Record) -> Carried {
    let mut command: Command = serde_json::from_slice(value(record))?;
    command.reply_partition = None;
    Ok(with(record, command.action.partition_key(), serde_json::to_vec(&command)?))
}

/// Whether a command is for the owner of a lane, not of a user.
pub(super) fn is_for_a_lane(record: &Record) -> bool {
    serde_json::from_slice(value(record)).is_ok_and(|command: Command| {
        matches!(
            command.action,
            Action::QueueRetry { .. }
                | Action::QueueHold { .. }
                | Action::QueueResume { .. }
                | Action::QueueRemove { .. }
                | Action::QueueReroute { .. }
                | Action::LaneRead { .. }
        )
    })
}

#[cfg(test)]
mod tests {
    use schemas::history::{Part, Rates};
    use schemas::verdict::Identity;
    use schemas::{Position, UserId};

    use super::*;

    #[test]
    fn histories_go_with_their_user() {
        let user = UserId("shop.example".into());
        for part in [Part::Rates(Identity("bob".into())), Part::Arrivals, Part::Bulk, Part::Text(3)] {
            let record = Record {
                position: Position { topic: Topic::Senders, partition: 1, offset: 7 },
                key: part.key(&user),
                value: Some(serde_json::to_vec(&Rates::new(Timestamp(5))).unwrap().into()),
                appended_at: Timestamp(5),
            };
            let carried = sender(&record, &Places::default(), Timestamp(9)).unwrap();
            assert_eq!(carried.partitioning, Partitioning::By(user.0.clone().into()));
            assert_eq!((carried.key, carried.value), (record.key, record.value));
        }
    }
}
