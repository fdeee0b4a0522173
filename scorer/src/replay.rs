//! How the state of partitions comes back from the log.

use std::collections::HashMap;
use std::time::Duration;

use eventlog::{Log, LogError, Record, TableEvent, TailFrom};
use schemas::quarantine::QuarantineRow;
use schemas::senders::{Kind, RecipientsRow, kind_of_key};
use schemas::verdict::Judged;
use schemas::{MessageId, Topic, spool};

use crate::outputs;
use crate::state::PartitionState;

const ROWS_AT_ONCE: usize = 1000;
/// How long the search for records that must be there may take without finding one.
const SEARCH_PATIENCE: Duration = Duration::from_secs(10);

/// Reads `senders` and `quarantine` of these partitions, and finds the place of the messages that a crash left without.
pub async fn load(log: &Log, partitions: &[u32]) -> Result<HashMap<u32, PartitionState>, LogError> {
    let mut states: HashMap<u32, PartitionState> =
        partitions.iter().map(|partition| (*partition, PartitionState::default())).collect();
    fold(log, Topic::Senders, partitions, &mut states, take_sender).await?;
    fold(log, Topic::Quarantine, partitions, &mut states, take_quarantined).await?;
    for (partition, state) in &mut states {
        place(log, *partition, state).await?;
    }
    Ok(states)
}

async fn fold(
    log: &Log,
    topic: Topic,
    partitions: &[u32],
    states: &mut HashMap<u32, PartitionState>,
    take: fn(&mut PartitionState, &Record),
) -> Result<(), LogError> {
    let mut table = log.table(topic, Some(partitions)).await?;
    loop {
        for event in table.next(ROWS_AT_ONCE).await? {
            match event {
                TableEvent::CaughtUp => return Ok(()),
                TableEvent::Row(record) => {
                    if let Some(state) = states.get_mut(&record.position.partition) {
                        take(state, &record);
                    }
                }
            }
        }
    }
}

fn take_sender(state: &mut PartitionState, record: &Record) {
    let Some(kind) = kind_of_key(&record.key) else { return };
    let Some(value) = &record.value else {
        match kind {
            Kind::User(user) => drop(state.senders.remove(&user, None)),
            Kind::Identity(user, identity) => drop(state.senders.remove(&user, Some(&identity))),
            Kind::Recipients(user) => state.senders.put_recipients(&user, None),
            Kind::Hold(user, id) => drop(state.holds.remove(&user, id)),
            Kind::History(user, part) => state.senders.histories.remove(&user, &part),
        }
        return;
    };
    let read = match kind {
        Kind::History(user, part) => state.senders.histories.put(user, part, value),
        Kind::Hold(..) => serde_json::from_slice(value).map(|row| state.holds.put(row)),
        Kind::Recipients(user) => serde_json::from_slice::<RecipientsRow>(value)
            .map(|row| state.senders.put_recipients(&user, Some(row.distinct))),
        _ => serde_json::from_slice(value).map(|row| state.senders.put(row)),
    };
    if let Err(error) = read {
        tracing::error!(position = %record.position, %error, "a senders row does not parse, it is passed over");
    }
}

fn take_quarantined(state: &mut PartitionState, record: &Record) {
    match &record.value {
        Some(value) => match serde_json::from_slice::<QuarantineRow>(value) {
            Ok(row) => state.quarantined.put(&row),
            Err(error) => {
                tracing::error!(position = %record.position, %error, "a quarantine row does not parse, it is passed over");
            }
        },
        None => {
            if let Some(id) = message_of_key(&record.key) {
                state.quarantined.remove(id);
            }
        }
    }
}

fn message_of_key(key: &[u8]) -> Option<MessageId> {
    std::str::from_utf8(key).ok()?.rsplit_once('\0')?.1.parse().ok()
}

/// A row is written with its message, so that it cannot be missed, but first with the position in `accepted`: that in
/// `quarantined` is known only after the commit. When a crash came between that commit and the next, the record is
/// searched for: it stands behind every one whose place is known.
async fn place(log: &Log, partition: u32, state: &mut PartitionState) -> Result<(), LogError> {
    let mut missing: HashMap<MessageId, _> =
        state.quarantined.unplaced().map(|(id, entry)| (id, (entry.since, entry.by.clone()))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let from = TailFrom::Offset(state.quarantined.next_offset());
    let mut tail = log.tail(Topic::Quarantined, partition, from).await?;
    while !missing.is_empty() {
        let Ok(records) = tokio::time::timeout(SEARCH_PATIENCE, tail.next(100)).await else {
            tracing::error!(
                partition,
                count = missing.len(),
                "quarantined messages whose record is not found"
            );
            return Ok(());
        };
        for record in records? {
            let id = std::str::from_utf8(&record.key).ok().and_then(|key| key.parse().ok());
            let Some((since, by)) = id.and_then(|id: MessageId| missing.remove(&id)) else { continue };
            let Some(judged) = record.value.as_ref().and_then(|v| spool::decode::<Judged>(v).ok()) else {
                tracing::error!(position = %record.position, "a quarantined record does not parse");
                continue;
            };
            let (judged, _) = judged;
            let row = outputs::row_of(
                &judged,
                schemas::quarantine::QuarantineState::In,
                since,
                &by,
                record.position,
            );
            state.quarantined.put(&row);
            state.unplaced.push(row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use schemas::UserId;
    use schemas::history::Part;
    use schemas::verdict::Identity;

    use super::*;

    #[test]
    fn keys_are_read_back() {
        let user = UserId("192.0.2.0/28".into());
        let identity = Identity("a\0b".into());
        let id = MessageId::derived("x", schemas::Timestamp(5));
        let histories = [
            Part::Rates(identity.clone()),
            Part::Contacts(identity.clone()),
            Part::Arrivals,
            Part::Bulk,
            Part::Text(7),
        ]
        .map(|part| (part.key(&user), Kind::History(user.clone(), part)));
        for (key, kind) in [
            (schemas::senders::key(&user, None), Kind::User(user.clone())),
            (schemas::senders::key(&user, Some(&identity)), Kind::Identity(user.clone(), identity)),
            (schemas::senders::hold_key(&user, id), Kind::Hold(user.clone(), id)),
            (schemas::senders::recipients_key(&user), Kind::Recipients(user.clone())),
        ]
        .into_iter()
        .chain(histories)
        {
            assert_eq!(kind_of_key(&key), Some(kind));
        }
        assert_eq!(message_of_key(&schemas::quarantine::key(&user, id)), Some(id));
        assert_eq!(message_of_key(b"nonsense"), None);
    }
}
