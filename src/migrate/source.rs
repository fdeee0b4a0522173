//! Reading the log that is moved. It is stopped, so what is read twice is the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Clock, Consumer, Log, Polled, Record, Table, TableEvent};
use schemas::Topic;
use schemas::topics::TopicPartition;

use super::groups::{self, Group};
use crate::config::Config;

/// Records read at once.
const AT_ONCE: usize = 500;
/// A stopped log has what it has; a group that is given nothing for so long is at its end.
const AT_ITS_END: Duration = Duration::from_millis(200);

/// Opens the embedded log of a stopped node. Nothing is dropped from it meanwhile.
pub(super) fn open(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Log> {
    let directory = config.data_dir.join("log");
    if !directory.is_dir() {
        anyhow::bail!("there is no log in {}: check data_dir in --from", directory.display());
    }
    let never = Duration::from_secs(10 * 365 * 24 * 3600);
    let config = EmbeddedConfig { retention_grace: never, ..EmbeddedConfig::new(directory) };
    let log = EmbeddedLog::open(config, clock)
        .context("the log of --from cannot be opened; a node that runs on it must be stopped first")?;
    Ok(log)
}

/// Everything that is kept of one partition, in its order.
pub(super) struct Kept {
    table: Box<dyn Table>,
    at_end: bool,
}

impl Kept {
    pub(super) async fn of(log: &Log, at: TopicPartition) -> anyhow::Result<Self> {
        Ok(Kept { table: log.table(at.topic, Some(&[at.partition])).await?, at_end: false })
    }

    /// The next records; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<Record>>> {
        if self.at_end {
            return Ok(None);
        }
        let mut records = Vec::new();
        for event in self.table.next(AT_ONCE).await? {
            match event {
                TableEvent::Row(record) => records.push(record),
                TableEvent::CaughtUp => self.at_end = true,
            }
        }
        Ok(Some(records))
    }
}

/// The rows of one partition of a compacted topic as they stand, oldest first.
pub(super) async fn rows(log: &Log, at: TopicPartition) -> anyhow::Result<Vec<Record>> {
    let mut newest: BTreeMap<Bytes, Record> = BTreeMap::new();
    let mut kept = Kept::of(log, at).await?;
    while let Some(records) = kept.next().await? {
        for record in records {
            match record.value {
                Some(_) => drop(newest.insert(record.key.clone(), record)),
                None => drop(newest.remove(&record.key)),
            }
        }
    }
    let mut rows: Vec<Record> = newest.into_values().collect();
    rows.sort_unstable_by_key(|row| row.position.offset);
    Ok(rows)
}

/// What a group has not come to, partition by partition in its order. Nothing is committed.
pub(super) struct Unread {
    consumer: Box<dyn Consumer>,
}

impl Unread {
    pub(super) async fn by(log: &Log, group: &Group) -> anyhow::Result<Self> {
        Ok(Unread { consumer: groups::take(log, group).await? })
    }

    /// For each partition, where the group goes on.
    pub(super) fn begins(&self) -> Vec<(TopicPartition, u64)> {
        self.consumer.positions()
    }

    /// The next records; none at the end, and then the group is left.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<Record>>> {
        loop {
            match self.consumer.poll(AT_ONCE, AT_ITS_END).await? {
                Polled::Records(records) => return Ok(Some(records)),
                Polled::Nothing => return Ok(None),
                Polled::Assigned(_) | Polled::Revoked(_) => {}
            }
        }
    }
}

/// All partitions of a topic.
pub(super) fn partitions(log: &Log, topic: Topic) -> impl Iterator<Item = TopicPartition> + use<> {
    (0..log.partitions(topic)).map(move |partition| TopicPartition { topic, partition })
}
