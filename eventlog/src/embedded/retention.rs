//! When an epoch ends and when it goes; when a tombstone goes. Time is the injected clock's.

use std::collections::HashMap;
use std::time::Duration;

use schemas::topics::{Retention, TopicPartition};
use schemas::{Timestamp, Topic};

use super::batch::remove_row;
use super::meta::{self, Committed, Newest};
use super::store::{Epoch, Store, slice, unavailable};
use crate::LogError;

/// Most epochs of a partition at a time.
const MAX_EPOCHS: usize = 8;
/// So many may be cut by size; the rest is left for age, so that what is old can always go.
const MAX_EPOCHS_BY_SIZE: usize = 5;
/// An epoch takes this part of the retention, so that at most so much is kept for longer.
const EPOCHS_PER_RETENTION: u32 = 6;
/// An epoch lasts so long at least: each one's life costs something (`catalogue`).
const SHORTEST_EPOCH: Duration = Duration::from_secs(3600);
/// Tombstones removed in one step.
const TOMBSTONES_AT_ONCE: usize = 1000;

/// Whether a new epoch must begin after the ones there are.
pub(super) fn cuts(epochs: &[Epoch], topic: Topic, now: Timestamp, epoch_bytes: u64) -> bool {
    let (Some(newest), Retention::Time(retention)) = (epochs.last(), topic.retention()) else {
        return false;
    };
    // Begun by a clock that was ahead and was set back: its time would not come for as long as that was.
    let age = if newest.first_at > now { Duration::MAX } else { now.since(newest.first_at) };
    is_full(epochs.len(), age, newest.bytes, retention, epoch_bytes)
}

fn is_full(count: usize, age: Duration, bytes: u64, retention: Duration, epoch_bytes: u64) -> bool {
    if count >= MAX_EPOCHS {
        return false;
    }
    let lasts = (retention / EPOCHS_PER_RETENTION).max(SHORTEST_EPOCH);
    age >= lasts || (bytes >= epoch_bytes && count < MAX_EPOCHS_BY_SIZE)
}

/// What is to be done about retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Enforce,
    NotBefore(Timestamp),
}

/// Whether retention is enforced now, `due` being when it should be. When it is long overdue, the machine stood still,
/// the log was away or the clock was set forward: whoever keeps old messages in the queue gets `grace` to write them
/// anew first. When it is due later than it can be, the clock was set back.
pub(super) fn look(due: Timestamp, now: Timestamp, interval: Duration, grace: Duration) -> Look {
    if now.since(due) > grace || due.since(now) > interval.max(grace) {
        return Look::NotBefore(now.plus(grace));
    }
    if now >= due { Look::Enforce } else { Look::NotBefore(due) }
}

/// How many of the oldest epochs hold nothing but records whose retention is over and which nobody still has to read.
/// For each epoch: when its last record was appended, and the offset after it. `unread`: the first offset that must stay.
fn expired(
    epochs: impl Iterator<Item = (Timestamp, u64)>,
    retention: Duration,
    unread: u64,
    now: Timestamp,
) -> usize {
    epochs.take_while(|(last_at, end)| now.since(*last_at) > retention && *end <= unread).count()
}

/// The first offset that must stay although its retention is over: mail that was taken in and that a group which works
/// on this topic has not come to, or all of it before any group has begun. Other topics are dropped unread, so that a group nobody uses any more keeps nothing.
fn first_unread(committed: &Committed, of: TopicPartition) -> u64 {
    if !of.topic.kept_until_read() {
        return u64::MAX;
    }
    let works_on_it = |offsets: &&HashMap<TopicPartition, u64>| offsets.keys().any(|at| at.topic == of.topic);
    let reached = |offsets: &HashMap<TopicPartition, u64>| offsets.get(&of).copied().unwrap_or(0);
    committed.values().filter(works_on_it).map(reached).min().unwrap_or(0)
}

/// Drops what is over. `ends` holds each partition's next offset.
pub(super) fn enforce(
    store: &Store,
    ends: &[u64],
    committed: &Committed,
    now: Timestamp,
    tombstone_delay: Duration,
) -> Result<(), LogError> {
    for (place, of) in store.layout().all().iter().enumerate() {
        match of.topic.retention() {
            Retention::Time(retention) => {
                let unread = first_unread(committed, *of);
                let ends_after = |epochs: &[Epoch]| {
                    let next = epochs.iter().skip(1).map(|epoch| epoch.base).chain([ends[place]]);
                    let ends = epochs.iter().map(|epoch| epoch.last_at).zip(next);
                    expired(ends, retention, unread, now)
                };
                let count = ends_after(&store.epochs(place));
                drop_epochs(store, place, count, ends[place])?;
            }
            Retention::Compacted => {
                let before = now.minus(tombstone_delay);
                while remove_tombstones(store, place, *of, ends[place], before)? == TOMBSTONES_AT_ONCE {}
            }
        }
    }
    Ok(())
}

fn drop_epochs(store: &Store, place: usize, count: usize, end: u64) -> Result<(), LogError> {
    if count == 0 {
        return Ok(());
    }
    let of = store.layout().all()[place];
    // Offsets are never given out twice, even if no record is left to tell the last one.
    store.meta.insert(slice(meta::floor_key(of)), meta::put_u64(end)).map_err(|e| unavailable(&e))?;
    store.db.persist(fjall::PersistMode::SyncData).map_err(|e| unavailable(&e))?;
    let dropped: Vec<Epoch> = store.epochs_mut(place).drain(..count).collect();
    for epoch in dropped {
        tracing::info!(topic = %of.topic, partition = of.partition, base = epoch.base, "retention is over");
        store.db.delete_keyspace(epoch.keyspace).map_err(|e| unavailable(&e))?;
    }
    Ok(())
}

/// Removes tombstones written before `before`; returns how many it looked at.
fn remove_tombstones(
    store: &Store,
    place: usize,
    of: TopicPartition,
    end: u64,
    before: Timestamp,
) -> Result<usize, LogError> {
    let mut rows = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
    let mut seen = 0;
    for guard in store.keys.prefix(meta::tombstone_prefix(of)).take(TOMBSTONES_AT_ONCE) {
        let (reminder, key) = guard.into_inner().map_err(|e| unavailable(&e))?;
        let Some((at, offset)) = meta::parse_tombstone_key(&reminder) else { continue };
        if at > before {
            break;
        }
        seen += 1;
        let index = meta::newest_key(of, &key);
        let entry = store.keys.get(&index).map_err(|e| unavailable(&e))?;
        match entry.as_deref() {
            Some(entry) if Newest::decode(entry).is_some_and(|newest| newest.offset == offset) => {
                remove_row(store, place, &key, entry, &mut rows);
                rows.remove(&store.keys, slice(index));
            }
            // It was written over in the meantime.
            _ => rows.remove(&store.keys, reminder),
        }
    }
    if seen > 0 {
        rows.insert(&store.meta, slice(meta::floor_key(of)), meta::put_u64(end));
        rows.commit().map_err(|e| unavailable(&e))?;
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const GIB: u64 = 1 << 30;

    #[test]
    fn epochs_end_by_age_and_size_and_stay_few() {
        let full = |count, age, bytes| is_full(count, age, bytes, 6 * DAY, GIB);
        assert!(!full(1, DAY / 2, GIB / 2));
        assert!(full(1, DAY, 0));
        assert!(full(1, Duration::ZERO, GIB));
        assert!(!full(5, Duration::ZERO, GIB), "the places left are for age");
        assert!(full(7, DAY, 0));
        assert!(!full(8, 9 * DAY, 9 * GIB));
        let short_lived = |age| is_full(1, age, 0, DAY / 24, GIB);
        assert!(!short_lived(DAY / 24 - Duration::from_secs(1)));
        assert!(short_lived(DAY / 24));
    }

    #[test]
    fn an_epoch_of_the_future_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = super::super::EmbeddedConfig::new(directory.path());
        let store = Store::open(&config).expect("opens");
        let now = Timestamp(0).plus(100 * DAY);
        for (at, ends) in [(now, false), (now.plus(DAY), true), (now.minus(DAY), true)] {
            let epoch = store.begin_epoch(0, 0, at).expect("begins");
            assert_eq!(cuts(&[epoch], Topic::Accepted, now, GIB), ends, "{at:?}");
        }
    }

    #[test]
    fn what_is_long_overdue_is_put_off() {
        const MINUTE: Duration = Duration::from_secs(60);
        let due = Timestamp(0).plus(100 * DAY);
        let at = |now| look(due, now, MINUTE, 10 * MINUTE);
        assert_eq!(at(due.minus(MINUTE)), Look::NotBefore(due));
        assert_eq!(at(due), Look::Enforce);
        assert_eq!(at(due.plus(10 * MINUTE)), Look::Enforce);
        for stood_still in [11 * MINUTE, 3 * DAY] {
            let now = due.plus(stood_still);
            assert_eq!(at(now), Look::NotBefore(now.plus(10 * MINUTE)));
        }
        let set_back = due.minus(DAY);
        assert_eq!(at(set_back), Look::NotBefore(set_back.plus(10 * MINUTE)));
    }

    #[test]
    fn only_the_oldest_whole_epochs_expire() {
        let now = Timestamp(0).plus(10 * DAY);
        let epochs = [(1, 10), (5, 20), (9, 30)].map(|(day, end)| (Timestamp(0).plus(day * DAY), end));
        let expired = |retention, unread| expired(epochs.into_iter(), retention, unread, now);
        assert_eq!(expired(2 * DAY, u64::MAX), 2);
        assert_eq!(expired(5 * DAY, u64::MAX), 1, "a record of exactly that age stays");
        assert_eq!(expired(10 * DAY, u64::MAX), 0);
        assert_eq!(expired(Duration::ZERO, u64::MAX), 3);
        assert_eq!(expired(Duration::ZERO, 20), 2, "what is unread stays");
        assert_eq!(expired(Duration::ZERO, 19), 1, "as a whole epoch");
    }

    #[test]
    fn only_mail_waits_for_its_slowest_group() {
        let of = |topic| TopicPartition { topic, partition: 1 };
        let mut committed = Committed::new();
        assert_eq!(first_unread(&committed, of(Topic::Accepted)), 0, "its scorer never came to work");
        for (group, offset) in [("fast", 90), ("slow", 7)] {
            let offsets = [(of(Topic::Accepted), offset), (of(Topic::Verdicts), offset)];
            committed.insert(group.into(), offsets.into());
        }
        assert_eq!(first_unread(&committed, of(Topic::Accepted)), 7);
        assert_eq!(first_unread(&committed, of(Topic::Verdicts)), u64::MAX);
        let other = TopicPartition { topic: Topic::Accepted, partition: 0 };
        assert_eq!(first_unread(&committed, other), 0, "nothing was committed of it yet");
    }
}
