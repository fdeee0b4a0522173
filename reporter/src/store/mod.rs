//! The statistics store: what it must do, and the engines. Product queries are written once, in `sql`, against the
//! same tables.

pub mod clickhouse;
pub mod query;
mod sql;
pub mod sqlite;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp};

use crate::rows::Change;
use crate::{Config, Error};
pub use clickhouse::Month;
use query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};

/// A batch of events, and which part of the log they are.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// One entry per partition.
    pub covered: Vec<Covered>,
}

/// A stretch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    pub at: TopicPartition,
    /// Its first offset: the store must have taken everything before.
    pub from: u64,
    /// The offset after its last record.
    pub next: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Taken,
    /// Nothing was taken: the store lacks events before the batch. It was deleted, or lost its last batches in a crash.
    Behind,
}

/// How a store wants to be fed.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// The same stretch of the log must come again after a crash: where batches end is written down before they are
    /// inserted.
    pub is_planned: bool,
    /// Records of a batch at most.
    pub records: usize,
    /// How long records are gathered: larger batches cost less.
    pub gather: Duration,
}

/// A store. Calls block; callers use threads that may.
pub trait StatsStore: Send + Sync + 'static {
    fn batching(&self) -> Batching;

    /// Takes a batch: rows, rollups, the index of events, and the offsets behind it. An event that was taken before, by
    /// its id, changes nothing.
    ///
    /// # Errors
    /// `Store`: try the same batch again. Of a store whose batches are planned, a part may have been taken.
    fn insert(&self, batch: &Batch) -> Result<Inserted, Error>;

    /// The next offset to read of each partition; one that is not named begins at 0.
    ///
    /// # Errors
    /// `Store`.
    fn offsets(&self) -> Result<HashMap<TopicPartition, u64>, Error>;

    /// The message log, newest first.
    ///
    /// # Errors
    /// `Store`.
    fn log(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Error>;

    /// Sums of the hourly rollups by group, largest first; by hour in order of time.
    ///
    /// # Errors
    /// `Store`.
    fn stats(&self, filter: &StatsFilter, group: Group) -> Result<Vec<StatsLine>, Error>;

    /// Ids of the messages that a text names, newest first: our id, the client's queue id, or a Message-ID.
    ///
    /// # Errors
    /// `Store`.
    fn find(&self, text: &str) -> Result<Vec<String>, Error>;

    /// Where the events of a message stand, in the order they happened.
    ///
    /// # Errors
    /// `Store`.
    fn events(&self, message_id: &str) -> Result<Vec<(Timestamp, Position)>, Error>;

    /// Deletes rows accepted, and hours that ended, before `limit`: some thousands a call; returns how many.
    ///
    /// # Errors
    /// `Store`.
    fn expire(&self, limit: Timestamp) -> Result<usize, Error>;

    /// Replaces an address (any case) in every row by `erased`; returns the number of rows. The log still has it until
    /// its retention is over: a store that is made anew from the log must be told again.
    ///
    /// # Errors
    /// `Store`.
    fn erase(&self, address: &str) -> Result<usize, Error>;

    /// Makes the sums and the message log of a month again from what they were made of.
    ///
    /// # Errors
    /// `Store`; `Query` when the store has nothing to make them of but the log.
    fn rebuild(&self, month: Month) -> Result<(), Error>;
}

/// Opens the store that the configuration names.
///
/// # Errors
/// When the database is of a newer version. One that cannot be opened now is tried again at each use.
pub fn open_store(config: &Config) -> Result<Arc<dyn StatsStore>, Error> {
    Ok(match &config.clickhouse {
        Some(target) => Arc::new(clickhouse::ClickHouseStore::open(target.clone(), config.keep)?),
        None => Arc::new(sqlite::SqliteStore::open(&config.database)?),
    })
}
