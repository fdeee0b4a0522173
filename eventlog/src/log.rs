//! The trait that both engines implement.

use std::time::Duration;

use async_trait::async_trait;
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

use crate::{LogError, NewRecord, Record};

/// The log.
///
/// Rules for every engine:
/// - A resolved `append` or `commit` survives the loss of the process (embedded: fsync; Kafka: acks of all replicas).
/// - Within a partition, offsets grow in the order of writing; they are not dense.
/// - Nobody reads a record before it is durable, nor an output of a commit that did not happen. What was only announced is no
///   record in this sense.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// How many partitions `topic` has; fixed when the log was created.
    fn partitions(&self, topic: Topic) -> u32;

    /// The partition that `Partitioning::By(key)` means. The same on every engine and node with the same count.
    fn partition_of(&self, topic: Topic, key: &[u8]) -> u32 {
        partition_of(key, self.partitions(topic))
    }

    /// Appends records and resolves when all are durable, with their positions in the order given. The records of one
    /// call become visible together on the embedded engine, one by one on Kafka: callers must not rely on it.
    ///
    /// # Errors
    /// `Unavailable`: the fate of the records is unknown, they may appear later. `TooLarge`: nothing was written.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError>;

    /// Tells those who tail these partitions at this moment something that nobody needs after a crash. It may be lost, need
    /// not be durable, is never in a group's or a table's way, and comes as early as the engine can bring it. Its position is
    /// of no use.
    ///
    /// # Errors
    /// `TooLarge`, `Closed`, `NoSuchPartition`; `Unavailable` when it is known to be lost.
    async fn announce(&self, records: Vec<NewRecord>) -> Result<(), LogError>;

    /// Joins a consumer group under a stable slot name. The partitions of `topics` are divided by range among the
    /// members; a member of the same slot name that is still there is fenced.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn join(&self, group: &str, slot: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, LogError>;

    /// Reads a topic from its start: of a compacted one every key's newest value at least, of any other every record that is
    /// kept; then `CaughtUp` once, then what is written from then on. `partitions`: absent for all.
    ///
    /// # Errors
    /// `Unavailable`, `NoSuchPartition`, `Closed`.
    async fn table(&self, topic: Topic, partitions: Option<&[u32]>) -> Result<Box<dyn Table>, LogError>;

    /// Reads a partition without a group, from its end as it is now or from an offset.
    ///
    /// # Errors
    /// `Unavailable`, `NoSuchPartition`, `Closed`.
    async fn tail(&self, topic: Topic, partition: u32, from: TailFrom) -> Result<Box<dyn Tail>, LogError>;

    /// The record at a position, or none when it was never there or its retention is over.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`, `NoSuchPartition`, `Closed`.
    async fn read(&self, position: Position) -> Result<Option<Record>, LogError>;

    /// For each partition of `topic`, an offset that is behind every record written before this call and not behind any
    /// written after it.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn ends(&self, topic: Topic) -> Result<Vec<u64>, LogError>;

    /// Records of `topic` that `group` has not committed yet, over all partitions; an estimate from offsets.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn lag(&self, group: &str, topic: Topic) -> Result<u64, LogError>;

    /// Drops what nobody needs of a topic that is kept until it is read: records that the log took before `before`, that
    /// `group` has committed, and that stand before each of `spared`. The embedded engine does that by itself and does
    /// nothing here; on Kafka somebody must call this now and then, or the topic grows for ever.
    ///
    /// # Errors
    /// `Unavailable`: call again later. `Closed`.
    async fn trim(
        &self,
        topic: Topic,
        group: &str,
        before: Timestamp,
        spared: &[Position],
    ) -> Result<(), LogError>;

    /// Whether new mail may be taken in: the last write succeeded and free disk is above `min_free`.
    ///
    /// # Errors
    /// Why not, as `Unavailable` or `Closed`.
    fn accepting(&self) -> Result<(), LogError>;

    /// Writes what is under way and closes; every later call fails with `Closed`. Waits until the engine is done.
    async fn close(&self);
}

/// A member of a consumer group. It starts where the group's last commit of each partition left off.
#[async_trait]
pub trait Consumer: Send {
    /// The next records, at most `max`, or what changed about the assignment; `Nothing` after `max_wait`. With a `max` of 0
    /// only what changed: for a member that has no room for records but must hear what it lost. Records of one
    /// partition come in order. After `Assigned` the member owns the partitions until `Revoked`; a member that got
    /// `Revoked` has lost them already, and a commit that names one of them is `Fenced`. Safe to cancel: a poll that is dropped has
    /// passed over nothing.
    ///
    /// # Errors
    /// `Fenced`: drop this consumer. `Unavailable`: poll again later.
    async fn poll(&mut self, max: usize, max_wait: Duration) -> Result<Polled, LogError>;

    /// Writes `outputs` and moves the group's offsets, as one atomic step; `next` names for each partition the offset
    /// after the last record that is done. Also when a timer gave rise to the outputs: then the current offsets go along
    /// (see `positions`), so that a zombie is fenced.
    ///
    /// # Errors
    /// Nothing was written on `Fenced` and `TooLarge`. On `Unavailable` the fate is unknown: call `rewind` and begin
    /// again from the last commit. Returns the positions of the outputs.
    async fn commit(
        &mut self,
        outputs: Vec<NewRecord>,
        next: &[(TopicPartition, u64)],
    ) -> Result<Vec<Position>, LogError>;

    /// For each partition owned, the offset of its last commit (what `commit` takes when only a timer fired).
    fn positions(&self) -> Vec<(TopicPartition, u64)>;

    /// Gives up what was polled and not committed: `poll` starts again after the last commit.
    ///
    /// # Errors
    /// `Fenced`, `Unavailable`.
    async fn rewind(&mut self) -> Result<(), LogError>;

    /// Leaves the group, so that the others take over at once. Dropping does the same, later.
    async fn leave(self: Box<Self>);
}

/// What `poll` found.
#[derive(Debug)]
pub enum Polled {
    Records(Vec<Record>),
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Nothing,
}

/// A compacted topic being followed.
#[async_trait]
pub trait Table: Send {
    /// The next events, at least one, at most `max`. Safe to cancel.
    ///
    /// # Errors
    /// `Unavailable`: call again. `Closed`.
    async fn next(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError>;
}

#[derive(Debug)]
pub enum TableEvent {
    /// A row, or with no value the removal of one.
    Row(Record),
    /// Everything that was durable when the table was opened has been given.
    CaughtUp,
}

/// A partition being followed.
#[async_trait]
pub trait Tail: Send {
    /// The next records, at least one, at most `max`. Safe to cancel.
    ///
    /// # Errors
    /// `Unavailable`: call again. `Closed`.
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// Only what is written from now on.
    End,
    /// From this offset, or the next one that is still kept.
    Offset(u64),
}

/// Kafka's default partitioner: murmur2 of the key, modulo the count (so both engines put a key in the same place).
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Apache Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_kafkas() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
