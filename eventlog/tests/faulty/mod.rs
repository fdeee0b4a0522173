//! A log that fails as an engine's does: its commits now and then, before they were written or after, so that the caller
//! cannot know; or all its appends from some number on. The workers' tests use it, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventlog::{Consumer, EventLog, Log, LogError, NewRecord, Polled, Record, Table, Tail, TailFrom};
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

pub struct FaultyLog {
    log: Log,
    commits: Option<Arc<AtomicUsize>>,
    /// Records of one poll, at most: small batches make many commits.
    max_poll: usize,
    appends_left: AtomicUsize,
}

#[allow(dead_code)] // each test has one of the two
impl FaultyLog {
    /// Two of five commits fail; `commits` counts them all.
    pub fn in_commits(log: &Log, commits: &Arc<AtomicUsize>, max_poll: usize) -> Log {
        let (log, commits) = (Arc::clone(log), Some(Arc::clone(commits)));
        Arc::new(FaultyLog { log, commits, max_poll, appends_left: AtomicUsize::new(usize::MAX) })
    }

    /// Its power fails with the append after so many.
    pub fn after_appends(log: &Log, appends: usize) -> Log {
        let appends_left = AtomicUsize::new(appends);
        Arc::new(FaultyLog { log: Arc::clone(log), commits: None, max_poll: usize::MAX, appends_left })
    }
}

struct FaultyConsumer {
    consumer: Box<dyn Consumer>,
    commits: Arc<AtomicUsize>,
    max_poll: usize,
}

fn failed() -> LogError {
    LogError::Unavailable("as the test wants it".into())
}

#[async_trait]
impl EventLog for FaultyLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        let left = &self.appends_left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .map_err(|_| failed())?;
        self.log.append(records).await
    }

    async fn announce(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.log.announce(records).await
    }

    async fn join(&self, group: &str, slot: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, LogError> {
        let consumer = self.log.join(group, slot, topics).await?;
        let Some(commits) = &self.commits else { return Ok(consumer) };
        Ok(Box::new(FaultyConsumer { consumer, commits: Arc::clone(commits), max_poll: self.max_poll }))
    }

    async fn table(&self, topic: Topic, partitions: Option<&[u32]>) -> Result<Box<dyn Table>, LogError> {
        self.log.table(topic, partitions).await
    }

    async fn tail(&self, topic: Topic, partition: u32, from: TailFrom) -> Result<Box<dyn Tail>, LogError> {
        self.log.tail(topic, partition, from).await
    }

    async fn read(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.log.read(position).await
    }

    async fn ends(&self, topic: Topic) -> Result<Vec<u64>, LogError> {
        self.log.ends(topic).await
    }

    async fn lag(&self, group: &str, topic: Topic) -> Result<u64, LogError> {
        self.log.lag(group, topic).await
    }

    async fn trim(
        &self,
        topic: Topic,
        group: &str,
        before: Timestamp,
        spared: &[Position],
    ) -> Result<(), LogError> {
        self.log.trim(topic, group, before, spared).await
    }

    fn accepting(&self) -> Result<(), LogError> {
        self.log.accepting()
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn poll(&mut self, max: usize, max_wait: Duration) -> Result<Polled, LogError> {
        self.consumer.poll(max.min(self.max_poll), max_wait).await
    }

    async fn commit(
        &mut self,
        outputs: Vec<NewRecord>,
        next: &[(TopicPartition, u64)],
    ) -> Result<Vec<Position>, LogError> {
        match self.commits.fetch_add(1, Ordering::Relaxed) % 5 {
            1 => Err(failed()),
            3 => {
                self.consumer.commit(outputs, next).await?;
                Err(failed())
            }
            _ => self.consumer.commit(outputs, next).await,
        }
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        self.consumer.positions()
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        self.consumer.rewind().await
    }

    async fn leave(self: Box<Self>) {
        self.consumer.leave().await;
    }
}
