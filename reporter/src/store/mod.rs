//! The statistics store: what it must do, and the engines. Product queries are written once, against the same tables.

pub mod query;
pub mod sqlite;

use std::collections::HashMap;
use std::sync::Arc;

use schemas::{Position, Timestamp, Topic};

use crate::rows::Change;
use crate::{Config, Error};
use query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};

/// A store. Calls block; callers use threads that may.
pub trait StatsStore: Send + Sync + 'static {
    /// Takes a batch: rows, rollups, the index of events, and the offsets behind it, in one transaction. A change at an
    /// offset that was taken before changes nothing.
    ///
    /// # Errors
    /// `Store`: nothing was taken, try again.
    fn insert(&self, changes: &[Change], next: &[(Topic, u32, u64)]) -> Result<(), Error>;

    /// The next offset to read, by topic and partition.
    ///
    /// # Errors
    /// `Store`.
    fn offsets(&self) -> Result<HashMap<(Topic, u32), u64>, Error>;

    /// The message log, newest first.
    ///
    /// # Errors
    /// `Store`.
    fn log(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Error>;

    /// Sums of the hourly rollups by group, largest first.
    ///
    /// # Errors
    /// `Store`.
    fn stats(&self, filter: &StatsFilter, group: Group) -> Result<Vec<StatsLine>, Error>;

    /// Ids of the messages that a text names: our id, the client's queue id, or a Message-ID.
    ///
    /// # Errors
    /// `Store`.
    fn find(&self, text: &str) -> Result<Vec<String>, Error>;

    /// Where the events of a message stand, in the order they happened.
    ///
    /// # Errors
    /// `Store`.
    fn events(&self, message_id: &str) -> Result<Vec<(Timestamp, Position)>, Error>;

    /// Deletes rows accepted before `limit`, some thousands at a time; returns how many.
    ///
    /// # Errors
    /// `Store`.
    fn expire(&self, limit: Timestamp) -> Result<usize, Error>;

    /// Replaces an address in every row by `erased`; returns the number of rows.
    ///
    /// # Errors
    /// `Store`.
    fn erase(&self, address: &str) -> Result<usize, Error>;
}

/// Opens the store that the configuration names.
///
/// # Errors
/// When the database is of a newer version. One that cannot be opened now is tried again at each use.
pub fn open_store(config: &Config) -> Result<Arc<dyn StatsStore>, Error> {
    Ok(Arc::new(sqlite::SqliteStore::open(&config.database)?))
}
