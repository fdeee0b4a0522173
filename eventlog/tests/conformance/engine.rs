//! What the suite needs of an engine beside the trait, and the small things its tests share.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eventlog::{Consumer, Log, LogError, NewRecord, Polled, Record};
use schemas::Topic;
use schemas::topics::TopicPartition;

/// An engine under test. Its partition count is 4.
#[async_trait]
pub trait Engine: Send {
    /// An empty log.
    async fn open(&mut self) -> Log;
    /// The same log after its process was gone: closed and opened again.
    async fn reopen(&mut self, log: Log) -> Log;
    /// Lets time pass by the log's clock, and has what is past its retention dropped, on an engine where a test has both
    /// in hand. What is asserted afterwards must hold without it, too.
    async fn pass(&mut self, _time: Duration) {}
    /// Everything in `topic` is past its retention and has been dropped.
    async fn outlive(&mut self, log: &Log, topic: Topic);
}

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn record(topic: Topic, key: &str, value: impl Into<Bytes>) -> NewRecord {
    NewRecord::new(topic, key.to_owned(), key.to_owned(), value)
}

pub fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().expect("a value").to_vec()).expect("text")
}

pub fn key(record: &Record) -> String {
    String::from_utf8(record.key.to_vec()).expect("text")
}

pub fn numbers(partitions: &[TopicPartition], topic: Topic) -> BTreeSet<u32> {
    partitions.iter().filter(|of| of.topic == topic).map(|of| of.partition).collect()
}

/// A consumer as a test follows it: what it owns, and where each partition goes on.
pub struct Follower {
    pub consumer: Box<dyn Consumer>,
    pub owned: BTreeSet<TopicPartition>,
}

impl Follower {
    pub async fn join(log: &Log, group: &str, slot: &str, topics: &[Topic]) -> Self {
        let consumer = log.join(group, slot, topics).await.expect("joins");
        Follower { consumer, owned: BTreeSet::new() }
    }

    /// Polls once; the assignment is kept in `owned`.
    pub async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        match self.consumer.poll(max, wait).await? {
            Polled::Records(records) => {
                assert!(records.iter().all(|r| self.owned.contains(&r.position.topic_partition())));
                return Ok(records);
            }
            Polled::Assigned(more) => {
                for of in more {
                    assert!(self.owned.insert(of), "{of:?} was assigned twice");
                }
            }
            Polled::Revoked(less) => {
                for of in less {
                    assert!(self.owned.remove(&of), "{of:?} was not owned");
                }
            }
            Polled::Nothing => {}
        }
        Ok(Vec::new())
    }

    /// Polls until `count` records came.
    pub async fn take(&mut self, count: usize) -> Vec<Record> {
        let mut taken = Vec::new();
        let all = async {
            while taken.len() < count {
                taken.extend(self.poll(count - taken.len(), PATIENCE).await.expect("polls"));
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("records in time");
        taken
    }

    /// Polls until the assignment is as `wanted` says; no records may come.
    pub async fn until_owns(&mut self, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) {
        self.poll_until_owns(1, wanted).await;
    }

    /// The same while records wait: it asks for none.
    pub async fn until_owns_without_room(&mut self, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) {
        self.poll_until_owns(0, wanted).await;
    }

    async fn poll_until_owns(&mut self, max: usize, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) {
        let all = async {
            while !wanted(&self.owned) {
                let records = self.poll(max, Duration::from_millis(50)).await.expect("polls");
                assert!(records.is_empty(), "no records were expected");
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("assigned in time");
    }
}

/// For each partition among `records`, the offset after its last.
pub fn after(records: &[Record]) -> Vec<(TopicPartition, u64)> {
    let mut next = std::collections::BTreeMap::new();
    for record in records {
        next.insert(record.position.topic_partition(), record.position.offset + 1);
    }
    next.into_iter().collect()
}
