//! The embedded engine: a log in a directory of this machine, owned by one process.
//!
//! Journey of a record: `mod` (append) -> `queue` -> `writer` gathers a `batch` -> `store` (fjall; one fsync) ->
//! `partition` (visible, recent records in memory) -> `consumer`, `table` or `tail`.
//!
//! After `backup` into a directory, that directory is a log: to restore, put it where the log was and open it.

mod backup;
mod batch;
mod catalogue;
mod config;
mod consumer;
mod disk;
mod group;
mod journal;
mod layout;
mod lock;
mod meta;
mod partition;
mod queue;
mod retention;
mod row;
mod shared;
mod store;
mod table;
mod tail;
mod torn;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

pub use backup::MARK as BACKUP_MARK;
pub use config::EmbeddedConfig;
use consumer::EmbeddedConsumer;
use lock::DirectoryLock;
use partition::Found;
use queue::Request;
use shared::Shared;
use store::Store;
use table::EmbeddedTable;
use tail::EmbeddedTail;
use writer::Writer;

use crate::{Clock, Consumer, EventLog, LogError, NewRecord, Record, Table, Tail, TailFrom};

/// A log in a directory. Dropping it closes it, too, but only `close` waits until the directory is free.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    /// One backup at a time: they share the staging directory.
    backup: Arc<tokio::sync::Mutex<()>>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, or creates it. Blocks for as long as recovery takes.
    ///
    /// # Errors
    /// `Unavailable`: another process owns the directory (the message names both), or it cannot be read or written.
    pub fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LogError> {
        std::fs::create_dir_all(&config.directory)
            .map_err(|error| LogError::Unavailable(format!("{}: {error}", config.directory.display())))?;
        let lock = DirectoryLock::take(&config.directory)?;
        backup::remove_leftover(&config.directory);
        journal::remove_leftovers(&config.directory);
        let store = Store::open(&config)?;
        let shared = Arc::new(Shared::new(store, config, clock)?);
        let writer = Writer::new(Arc::clone(&shared), lock);
        std::thread::Builder::new()
            .name("eventlog-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| LogError::Unavailable(format!("the writer's thread: {error}")))?;
        Ok(Arc::new(EmbeddedLog { shared, backup: Arc::default() }))
    }

    /// Drops what is past its retention now. Happens by itself every `retention_interval`, too.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    pub async fn enforce_retention(&self) -> Result<(), LogError> {
        self.shared.ask(|reply| Request::EnforceRetention { reply }).await
    }

    /// Copies the whole log, as of one moment, into a directory that is empty or not there. Appends wait for a moment
    /// only; the copy is a log of its own and can be opened as it is, once `BACKUP_MARK` is in it.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    pub async fn backup(&self, into: &Path) -> Result<(), LogError> {
        let one_at_a_time = Arc::clone(&self.backup).lock_owned().await;
        let (shared, into) = (Arc::clone(&self.shared), into.to_owned());
        // A task of its own, which goes on when whoever asked for it is gone.
        let task = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            backup::run(&shared, &into).await
        });
        task.await.unwrap_or_else(|error| Err(LogError::Unavailable(format!("backup: {error}"))))
    }

    /// Recent records from memory, others from disk.
    async fn record_at(&self, index: usize, offset: u64) -> Result<Option<Record>, LogError> {
        match self.shared.partitions[index].find(offset, 1, 1) {
            Found::Records(mut records, _) => Ok(records.pop()),
            Found::AtEnd => Ok(None),
            Found::OnDisk { .. } => self.shared.blocking(move |store| store.get(index, offset)).await,
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.layout.partitions(topic)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        records.iter().try_for_each(NewRecord::check_size)?;
        self.shared.up()?;
        let room = self.shared.queue.room_for(&records).await?;
        self.shared.ask(|reply| Request::Append { records, reply, room }).await
    }

    /// Goes from memory to memory.
    async fn announce(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        records.iter().try_for_each(NewRecord::check_size)?;
        self.shared.up()?;
        let now = self.shared.clock.now();
        for record in records {
            let of = batch::target(&record, &self.shared.layout);
            let partition = &self.shared.partitions[self.shared.layout.index(of)?];
            let position = Position { topic: of.topic, partition: of.partition, offset: partition.end() };
            partition.announce(&Record { position, key: record.key, value: record.value, appended_at: now });
        }
        Ok(())
    }

    async fn join(&self, group: &str, slot: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, LogError> {
        let consumer = EmbeddedConsumer::join(Arc::clone(&self.shared), group, slot, topics).await?;
        Ok(Box::new(consumer))
    }

    async fn table(&self, topic: Topic, partitions: Option<&[u32]>) -> Result<Box<dyn Table>, LogError> {
        let all: Vec<u32> = (0..self.partitions(topic)).collect();
        let indexes = partitions
            .unwrap_or(&all)
            .iter()
            .map(|partition| self.shared.layout.index(TopicPartition { topic, partition: *partition }))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(EmbeddedTable::open(Arc::clone(&self.shared), indexes).await?))
    }

    async fn tail(&self, topic: Topic, partition: u32, from: TailFrom) -> Result<Box<dyn Tail>, LogError> {
        let index = self.shared.layout.index(TopicPartition { topic, partition })?;
        self.shared.up()?;
        let position = match from {
            TailFrom::End => self.shared.partitions[index].end(),
            TailFrom::Offset(offset) => offset,
        };
        Ok(Box::new(EmbeddedTail::open(Arc::clone(&self.shared), index, position)))
    }

    async fn read(&self, position: Position) -> Result<Option<Record>, LogError> {
        let index = self.shared.layout.index(position.topic_partition())?;
        self.shared.up()?;
        self.record_at(index, position.offset).await
    }

    async fn ends(&self, topic: Topic) -> Result<Vec<u64>, LogError> {
        self.shared.up()?;
        (0..self.partitions(topic))
            .map(|partition| self.shared.layout.index(TopicPartition { topic, partition }))
            .map(|index| Ok(self.shared.partitions[index?].end()))
            .collect()
    }

    async fn lag(&self, group: &str, topic: Topic) -> Result<u64, LogError> {
        self.shared.lag(group, topic).await
    }

    async fn trim(&self, _: Topic, _: &str, _: Timestamp, _: &[Position]) -> Result<(), LogError> {
        self.shared.up()
    }

    fn accepting(&self) -> Result<(), LogError> {
        self.shared.accepting()
    }

    async fn close(&self) {
        // Fails only when it is closed already.
        let _ = self.shared.ask(|reply| Request::Close { reply }).await;
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}
