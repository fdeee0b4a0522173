//! Writing the log that is moved to, some records at a time.

use std::collections::BTreeSet;

use bytes::Bytes;
use eventlog::{Log, NewRecord};
use schemas::{Position, Topic};

use super::source;

/// What is written in one step.
const STEP_RECORDS: usize = 1000;
const STEP_BYTES: usize = 4 << 20;

/// Records on their way, in order.
pub(super) struct Writer<'a> {
    log: &'a Log,
    waiting: Vec<NewRecord>,
    bytes: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Writer { log, waiting: Vec::new(), bytes: 0 }
    }

    /// Takes a record; where it came to stand is told by the call that writes it, in order.
    pub(super) async fn put(&mut self, record: NewRecord) -> anyhow::Result<Vec<Position>> {
        self.bytes += record.value.as_ref().map_or(0, Bytes::len);
        self.waiting.push(record);
        if self.waiting.len() >= STEP_RECORDS || self.bytes >= STEP_BYTES {
            return self.write().await;
        }
        Ok(Vec::new())
    }

    /// Writes what waits.
    pub(super) async fn write(&mut self) -> anyhow::Result<Vec<Position>> {
        self.bytes = 0;
        Ok(self.log.append(std::mem::take(&mut self.waiting)).await?)
    }
}

/// Whether there is no record in any topic.
pub(super) async fn is_empty(log: &Log) -> anyhow::Result<bool> {
    for topic in Topic::ALL {
        if log.ends(topic).await?.iter().any(|end| *end > 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Rows that stand on the target and are not of this run: by partition and key.
pub(super) struct Leftover(BTreeSet<(u32, Bytes)>);

impl Leftover {
    pub(super) async fn of(log: &Log, topic: Topic) -> anyhow::Result<Self> {
        let mut keys = BTreeSet::new();
        for at in source::partitions(log, topic) {
            let rows = source::rows(log, at).await?;
            keys.extend(rows.into_iter().map(|row| (at.partition, row.key)));
        }
        Ok(Leftover(keys))
    }

    pub(super) fn is_written(&mut self, partition: u32, key: &Bytes) {
        self.0.remove(&(partition, key.clone()));
    }

    /// What takes the rest away.
    pub(super) fn tombstones(self, topic: Topic) -> impl Iterator<Item = NewRecord> {
        self.0.into_iter().map(move |(partition, key)| {
            NewRecord::tombstone(topic, key.clone(), key).in_partition(partition)
        })
    }
}
