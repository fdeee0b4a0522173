//! The embedded engine: one process, one directory, `fjall` underneath.
//!
//! - `store` knows where a record lies: keyspaces by topic, partition and epoch, and the rings of recent records.
//! - `writer` is the one thread that writes: it gathers what waits, commits it with one fsync, then wakes readers.
//! - `group` decides who owns which partition; it only changes between two batches of the writer.
//! - `consumer`, `table` and `tail` are the three ways to read on.

mod backup;
mod codec;
mod config;
mod consumer;
mod group;
mod retention;
mod space;
mod store;
mod table;
mod tail;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use schemas::{Position, Topic};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use config::EmbeddedConfig;

use crate::{Clock, Consumer, EventLog, LogError, NewRecord, Record, Table, Tail, TailFrom};
use group::Groups;
use store::Shared;
use writer::{Request, Writer};

/// The log of one process in one directory.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    writer: Writer,
    /// Ends the retention task when the log is dropped.
    _background: DropGuard,
}

impl EmbeddedLog {
    /// Opens the directory, making it when it is not there. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// `Unavailable` when another process has it open, or it cannot be read or written.
    pub fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LogError> {
        let shared = Arc::new(Shared::open(config, clock)?);
        let writer = Writer::start(Arc::clone(&shared))?;
        let stop = CancellationToken::new();
        retention::start(Arc::clone(&shared), writer.clone(), stop.clone());
        Ok(Arc::new(EmbeddedLog { shared, writer, _background: stop.drop_guard() }))
    }

    /// Drops what is past its retention now, in place of at the next turn of the timer.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    pub async fn enforce_retention(&self) -> Result<(), LogError> {
        retention::enforce(&self.writer).await
    }

    /// Copies the whole log as it is at this moment into `directory`, which must not exist. Writing goes on meanwhile.
    /// The copy is a log of its own: opening it continues from that moment.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read or written.
    pub async fn backup(&self, directory: &Path) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let directory = directory.to_owned();
        tokio::task::spawn_blocking(move || backup::copy(&shared, &directory))
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.config.partitions_of(topic)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        self.writer.write(records, None).await
    }

    async fn join(&self, group: &str, slot: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, LogError> {
        let consumer =
            consumer::EmbeddedConsumer::join(&self.shared, &self.writer, group, slot, topics).await?;
        Ok(Box::new(consumer))
    }

    async fn table(&self, topic: Topic, partitions: Option<&[u32]>) -> Result<Box<dyn Table>, LogError> {
        Ok(Box::new(table::EmbeddedTable::open(&self.shared, topic, partitions)?))
    }

    async fn tail(&self, topic: Topic, partition: u32, from: TailFrom) -> Result<Box<dyn Tail>, LogError> {
        Ok(Box::new(tail::EmbeddedTail::open(&self.shared, topic, partition, from)?))
    }

    async fn read(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.shared.check_partition(position.topic, position.partition)?;
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read_at(position))
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?
    }

    async fn lag(&self, group: &str, topic: Topic) -> Result<u64, LogError> {
        let store = self.shared.store()?;
        let committed = store.committed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((0..self.partitions(topic))
            .map(|partition| {
                let end = store.end(topic, partition);
                let done = committed.get(&(group.to_owned(), topic, partition)).copied().unwrap_or(0);
                end.saturating_sub(done.max(store.start(topic, partition)))
            })
            .sum())
    }

    fn accepting(&self) -> Result<(), LogError> {
        self.shared.accepting()
    }

    async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writer.send(Request::Close { done }).await.is_ok() {
            // The writer drops its end when it is gone, which is as good.
            let _ = closed.await;
        }
    }
}

/// Locks that only guard plain data: a panic elsewhere leaves nothing half done in them.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared by `group` and its users.
type SharedGroups = Mutex<Groups>;
