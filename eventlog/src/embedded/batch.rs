//! What the writer gathers and then writes in one step.

use std::collections::HashMap;

use bytes::Bytes;
use schemas::topics::{Retention, TopicPartition};
use schemas::{Position, Timestamp};
use tokio::sync::OwnedSemaphorePermit;

use super::meta::{self, Newest};
use super::queue::{Reply, size};
use super::store::{Epoch, Store, slice, unavailable};
use super::{layout::Layout, retention, row};
use crate::{LogError, NewRecord, Partitioning, Record};

/// A value below this size, in bytes, is copied: it may be a small part of a large buffer, which would stay in memory as
/// long as the value, unseen by every limit. A larger one is shared with whoever gave it.
const SHARED_FROM_BYTES: usize = 4096;

/// A record with its place.
pub(super) struct Placed {
    /// The partition's place in the layout.
    pub(super) place: usize,
    pub(super) record: Record,
    /// The key of its row; the record's own key is a part of it.
    row: Bytes,
}

/// Appends and commits gathered, with the offsets they will have.
pub(super) struct Batch {
    at: Timestamp,
    /// In the order of writing.
    pub(super) records: Vec<Placed>,
    pub(super) offsets: HashMap<(String, TopicPartition), u64>,
    pub(super) replies: Vec<(Reply<Vec<Position>>, Vec<Position>)>,
    pub(super) bytes: usize,
    /// The room in the queue that these records take until they are written.
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    pub(super) fn new(at: Timestamp) -> Self {
        Batch {
            at,
            records: Vec::new(),
            offsets: HashMap::new(),
            replies: Vec::new(),
            bytes: 0,
            rooms: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Adds records; `ends` holds each partition's next offset and moves on.
    pub(super) fn append(
        &mut self,
        records: Vec<NewRecord>,
        reply: Reply<Vec<Position>>,
        room: OwnedSemaphorePermit,
        layout: &Layout,
        ends: &mut [u64],
    ) {
        match place_all(&records, layout) {
            Ok(places) => {
                let positions = self.take(records, &places, layout, ends);
                self.replies.push((reply, positions));
                self.rooms.push(room);
            }
            // Whoever asked may have gone; nobody else needs to know.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Adds a member's offsets, whose right to them was checked; its outputs are appended.
    pub(super) fn advance(&mut self, group: &str, next: &[(TopicPartition, u64, u64)]) {
        for (of, offset, _) in next {
            self.offsets.insert((group.to_owned(), *of), *offset);
        }
    }

    fn take(
        &mut self,
        records: Vec<NewRecord>,
        places: &[usize],
        layout: &Layout,
        ends: &mut [u64],
    ) -> Vec<Position> {
        let mut positions = Vec::with_capacity(records.len());
        for (record, place) in records.into_iter().zip(places) {
            let of = layout.all()[*place];
            let position = Position { topic: of.topic, partition: of.partition, offset: ends[*place] };
            ends[*place] += 1;
            positions.push(position);
            self.bytes += size(&record);
            let row = row::encode(position.offset, self.at, record.value.is_none(), &record.key);
            let key = row::record_key(&row);
            let value = record.value.map(owned);
            let record = Record { position, key, value, appended_at: self.at };
            self.records.push(Placed { place: *place, record, row });
        }
        positions
    }

    /// Writes everything and returns when it is on disk.
    pub(super) fn write(&self, store: &Store) -> Result<(), LogError> {
        let mut rows = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
        let superseded = index_keys(&self.records, store, &mut rows)?;
        let mut active: HashMap<usize, Epoch> = HashMap::new();
        for (number, Placed { place, record, row }) in self.records.iter().enumerate() {
            if superseded.get(number).copied().unwrap_or(false) {
                continue;
            }
            let value = record.value.clone().unwrap_or_default();
            let epoch = match active.get_mut(place) {
                Some(epoch) => epoch,
                None => active.entry(*place).or_insert(self.epoch(store, *place, record)?),
            };
            epoch.bytes += (record.key.len() + value.len()) as u64;
            epoch.last_at = self.at;
            rows.insert(&epoch.keyspace, slice(row.clone()), slice(value));
        }
        for ((group, of), offset) in &self.offsets {
            rows.insert(&store.meta, slice(meta::offset_key(group, *of)), meta::put_u64(*offset));
        }
        rows.commit().map_err(|error| unavailable(&error))?;
        for (place, written) in active {
            if let Some(epoch) = store.epochs_mut(place).last_mut() {
                *epoch = written;
            }
        }
        Ok(())
    }

    /// The epoch that takes the first record of this batch for a partition.
    fn epoch(&self, store: &Store, place: usize, record: &Record) -> Result<Epoch, LogError> {
        let offset = record.position.offset;
        let newest = {
            let epochs = store.epochs(place);
            let cuts = || retention::cuts(&epochs, record.position.topic, self.at, store.epoch_bytes());
            match epochs.last() {
                // Begun by a batch that was never written: it has no age, and there can be no other of this base.
                Some(empty) if empty.base == offset => Some(empty.beginning_at(self.at)),
                newest => newest.filter(|_| !cuts()).cloned(),
            }
        };
        match newest {
            Some(epoch) => Ok(epoch),
            None => store.begin_epoch(place, offset, self.at),
        }
    }
}

fn owned(value: Bytes) -> Bytes {
    if value.len() < SHARED_FROM_BYTES { Bytes::copy_from_slice(&value) } else { value }
}

/// Where each record goes, or why none of them may be written.
fn place_all(records: &[NewRecord], layout: &Layout) -> Result<Vec<usize>, LogError> {
    records.iter().map(|record| place(record, layout)).collect()
}

/// The place of the partition that a record belongs to.
pub(super) fn place(record: &NewRecord, layout: &Layout) -> Result<usize, LogError> {
    layout.index(target(record, layout))
}

/// The partition that a record belongs to, though there may be no such one.
pub(super) fn target(record: &NewRecord, layout: &Layout) -> TopicPartition {
    let partition = match &record.partitioning {
        Partitioning::By(key) => crate::log::partition_of(key, layout.partitions(record.topic)),
        Partitioning::Partition(partition) => *partition,
    };
    TopicPartition { topic: record.topic, partition }
}

/// Keeps the index of compacted topics: the newest row of a key replaces the one before. Returns which records of the
/// batch are replaced within it and are not to be written at all (fjall gives a batch one sequence number, so a row
/// cannot be written and removed in the same one).
fn index_keys(
    records: &[Placed],
    store: &Store,
    rows: &mut fjall::OwnedWriteBatch,
) -> Result<Vec<bool>, LogError> {
    let mut newest: HashMap<(usize, Bytes), usize> = HashMap::new();
    let mut superseded = Vec::new();
    for (number, Placed { place, record, .. }) in records.iter().enumerate() {
        if record.position.topic.retention() != Retention::Compacted {
            continue;
        }
        superseded.resize(records.len(), false);
        if let Some(earlier) = newest.insert((*place, record.key.clone()), number) {
            superseded[earlier] = true;
        }
    }
    for ((_, key), number) in newest {
        let Placed { place, record, .. } = &records[number];
        let of = record.position.topic_partition();
        let index = meta::newest_key(of, &key);
        if let Some(old) = store.keys.get(&index).map_err(|error| unavailable(&error))? {
            remove_row(store, *place, &key, &old, rows);
        }
        let is_tombstone = record.value.is_none();
        let (offset, appended_at) = (record.position.offset, record.appended_at);
        let entry = Newest { offset, appended_at, is_tombstone };
        rows.insert(&store.keys, slice(index), slice(entry.encode()));
        if is_tombstone {
            rows.insert(&store.keys, slice(meta::tombstone_key(of, appended_at, offset)), slice(key));
        }
    }
    Ok(superseded)
}

/// Removes the row that an index entry names, and the reminder of a tombstone.
pub(super) fn remove_row(
    store: &Store,
    place: usize,
    key: &[u8],
    entry: &[u8],
    rows: &mut fjall::OwnedWriteBatch,
) {
    let Some(old) = Newest::decode(entry) else {
        tracing::error!("an index entry of a compacted topic is damaged, its old row stays");
        return;
    };
    let epoch = store.epochs(place).iter().rev().find(|epoch| epoch.base <= old.offset).cloned();
    if let Some(epoch) = epoch {
        let row = row::encode(old.offset, old.appended_at, old.is_tombstone, key);
        rows.remove(&epoch.keyspace, slice(row));
    }
    if old.is_tombstone {
        let of = store.layout().all()[place];
        rows.remove(&store.keys, slice(meta::tombstone_key(of, old.appended_at, old.offset)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use schemas::Topic;
    use tokio::sync::{Semaphore, oneshot};

    use super::super::config::EmbeddedConfig;
    use super::super::store::Span;
    use super::*;

    /// Writes one record to `accepted`, as the writer does.
    fn write(store: &Store, at: Timestamp, ends: &mut [u64]) {
        let mut batch = Batch::new(at);
        let record = NewRecord::new(Topic::Accepted, "user", "id", "value").in_partition(0);
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        batch.append(vec![record], oneshot::channel().0, room, store.layout(), ends);
        batch.write(store).expect("it is written");
    }

    #[test]
    fn an_epoch_that_a_crash_left_empty_is_gone_on_with() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EmbeddedConfig::new(directory.path());
        let now = Timestamp(1_795_512_600_000);
        let index = Layout::new(config.partitions)
            .index(TopicPartition { topic: Topic::Accepted, partition: 0 })
            .expect("a partition");
        let store = Store::open(&config).expect("opens");
        // A batch begins an epoch before it writes to it; here the process dies in between.
        store.begin_epoch(index, 0, now).expect("an epoch");
        drop(store);
        let store = Store::open(&config).expect("opens again");
        let mut ends = store.ends().expect("ends");
        write(&store, now, &mut ends);
        write(&store, now, &mut ends);
        let epochs = store.epochs(index).len();
        let nobody = meta::Committed::new();
        let later = now.plus(Duration::from_secs(3600));
        retention::enforce(&store, &ends, &nobody, later, Duration::ZERO).expect("retention");
        drop(store);
        let store = Store::open(&config).expect("opens again");
        let span = Span { index, from: 0, until: u64::MAX, max: 9, max_bytes: usize::MAX };
        let (found, _) = store.scan(span, None).expect("reads");
        let offsets: Vec<u64> = found.iter().map(|record| record.position.offset).collect();
        assert_eq!(offsets, [0, 1], "an hour is no retention");
        assert_eq!(epochs, 1, "who reads from two of one base gets their records twice");
    }
}
