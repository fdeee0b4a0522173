//! A partition in memory: its end, its most recent records, and who waits for more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::tail::Heard;
use crate::Record;

/// What a record costs in memory beside its bytes.
const RECORD_OVERHEAD: usize = 160;

#[derive(Debug)]
pub(super) struct Partition {
    recent: Mutex<Recent>,
    listeners: Mutex<Vec<Arc<Notify>>>,
    tails: Mutex<Vec<Arc<Heard>>>,
    max_bytes: usize,
}

/// The newest records without a gap up to `end`.
#[derive(Debug, Default)]
struct Recent {
    records: VecDeque<Record>,
    bytes: usize,
    /// The offset that the next record will have.
    end: u64,
}

/// What the recent records say to a reader.
#[derive(Debug)]
pub(super) enum Found {
    /// The records asked for and the offset to go on from.
    Records(Vec<Record>, u64),
    /// Nothing is written yet at this offset.
    AtEnd,
    /// The offset is older than what is kept here, up to this end.
    OnDisk { end: u64 },
}

impl Partition {
    pub(super) fn new(end: u64, max_bytes: usize) -> Self {
        Partition {
            recent: Mutex::new(Recent { end, ..Recent::default() }),
            listeners: Mutex::default(),
            tails: Mutex::default(),
            max_bytes,
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset that the next record will have; all before it are durable.
    pub(super) fn end(&self) -> u64 {
        self.recent().end
    }

    /// Makes durable records visible; they follow on what was there.
    pub(super) fn publish(&self, records: impl Iterator<Item = Record>) {
        let mut recent = self.recent();
        for record in records {
            debug_assert_eq!(record.position.offset, recent.end, "records follow on each other");
            recent.end = record.position.offset + 1;
            recent.bytes += cost(&record);
            recent.records.push_back(record);
        }
        while recent.bytes > self.max_bytes {
            let Some(oldest) = recent.records.pop_front() else { break };
            recent.bytes -= cost(&oldest);
        }
    }

    /// Forgets the recent records: the log was opened again and says what there is.
    pub(super) fn reset(&self, end: u64) {
        let mut recent = self.recent();
        *recent = Recent { end, ..Recent::default() };
    }

    /// Forgets the records before `start`: their retention is over.
    pub(super) fn forget_before(&self, start: u64) {
        let mut recent = self.recent();
        while recent.records.front().is_some_and(|oldest| oldest.position.offset < start) {
            let Some(oldest) = recent.records.pop_front() else { break };
            recent.bytes -= cost(&oldest);
        }
    }

    /// Records from `from` on, at most `max` and about `max_bytes`, but one at least.
    pub(super) fn find(&self, from: u64, max: usize, max_bytes: usize) -> Found {
        let recent = self.recent();
        if from >= recent.end {
            return Found::AtEnd;
        }
        let start = recent.end - recent.records.len() as u64;
        if from < start {
            return Found::OnDisk { end: recent.end };
        }
        let mut bytes = 0;
        let found: Vec<Record> = recent
            .records
            .range((from - start) as usize..)
            .take(max)
            .take_while(|record| {
                let fits = bytes < max_bytes;
                bytes += cost(record);
                fits
            })
            .cloned()
            .collect();
        let next = from + found.len() as u64;
        Found::Records(found, next)
    }

    /// Whoever is registered here is notified of every publication.
    pub(super) fn listen(&self, listener: &Arc<Notify>) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(listener));
    }

    pub(super) fn unlisten(&self, listener: &Arc<Notify>) {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| !Arc::ptr_eq(known, listener));
    }

    /// Whoever is registered here hears what is announced.
    pub(super) fn hear(&self, tail: &Arc<Heard>) {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(tail));
    }

    pub(super) fn unhear(&self, tail: &Arc<Heard>) {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| !Arc::ptr_eq(known, tail));
    }

    pub(super) fn announce(&self, record: &Record) {
        for tail in self.tails.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            tail.push(record.clone());
        }
        self.wake();
    }

    pub(super) fn wake(&self) {
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener.notify_one();
        }
    }
}

fn cost(record: &Record) -> usize {
    RECORD_OVERHEAD + record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::{Position, Timestamp, Topic};

    use super::*;

    fn record(offset: u64) -> Record {
        Record {
            position: Position { topic: Topic::Accepted, partition: 0, offset },
            key: Bytes::new(),
            value: Some(Bytes::from(vec![0; 840])),
            appended_at: Timestamp(0),
        }
    }

    #[test]
    fn keeps_the_newest_and_says_what_is_older() {
        let partition = Partition::new(10, 3_000);
        assert!(matches!(partition.find(10, 5, 9_999), Found::AtEnd));
        assert!(matches!(partition.find(3, 5, 9_999), Found::OnDisk { end: 10 }));
        partition.publish((10..15).map(record));
        assert_eq!(partition.end(), 15);
        assert!(matches!(partition.find(11, 5, 9_999), Found::OnDisk { end: 15 }));
        let Found::Records(found, next) = partition.find(12, 2, 9_999) else { panic!("not in memory") };
        assert_eq!((found[0].position.offset, found.len(), next), (12, 2, 14));
        let Found::Records(found, next) = partition.find(12, 9, 1) else { panic!("not in memory") };
        assert_eq!((found.len(), next), (1, 13));
        assert!(matches!(partition.find(15, 1, 1), Found::AtEnd));
        partition.forget_before(14);
        assert!(matches!(partition.find(13, 1, 1), Found::OnDisk { end: 15 }));
        assert!(matches!(partition.find(14, 1, 1), Found::Records(..)));
    }
}
