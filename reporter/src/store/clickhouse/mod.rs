//! The store on ClickHouse: one table that is written, `outcomes`; materialized views make the rest of it.
//!
//! Nothing here is a transaction. Instead every insert is one block under a name that says which stretch of the log it
//! is, and its rows depend on that stretch and what came before it alone: an insert whose fate is unknown is repeated,
//! and the server passes over what it has, in the table and in each view by itself.

mod again;
mod cut;
mod fold;
mod month;
mod pause;
mod read;
mod row;
mod schema;
mod server;
mod take;
mod target;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp};

use super::query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};
use super::sql::{self, HOUR_MS, Statement};
use super::{Batch, Batching, Inserted, StatsStore};
use crate::Error;
use server::{Failure, Server};

pub use month::Month;
pub use target::Target;

/// Most events are about one recipient, so that most batches are one insert.
const RECORDS: usize = cut::MAX_ROWS / 2;
/// A few large inserts cost the server far less than many small ones.
const GATHER: Duration = Duration::from_secs(2);
/// Rows are deleted when that much more time is over: each time the parts they stand in are written anew.
const EXPIRE_STEP_MS: i64 = 12 * HOUR_MS;

pub struct ClickHouseStore {
    server: Server,
    keep: Duration,
    has_schema: AtomicBool,
    /// One writer of this process; `pause` holds up those of others. Holds the limit of the last `expire`.
    writer: Mutex<Option<Timestamp>>,
}

impl ClickHouseStore {
    /// `keep`: how long rows are kept.
    ///
    /// # Errors
    /// When the database was written by a newer version. Anything else is tried again at each use.
    pub fn open(target: Target, keep: Duration) -> Result<Self, Error> {
        let server = Server::new(target);
        let store =
            ClickHouseStore { server, keep, has_schema: AtomicBool::new(false), writer: Mutex::new(None) };
        match store.with(|_| Ok(())) {
            Err(error @ Error::Query(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "statistics wait for their store");
                Ok(store)
            }
            Ok(()) => Ok(store),
        }
    }

    /// Runs `work` on a database that has the tables. Where they are gone they are made again with the next call.
    fn with<T>(&self, work: impl FnOnce(&Server) -> Result<T, Failure>) -> Result<T, Error> {
        if !self.has_schema.load(Ordering::Acquire) {
            schema::prepare(&self.server, self.keep)?;
            self.has_schema.store(true, Ordering::Release);
        }
        work(&self.server).map_err(|failure| {
            if matches!(failure, Failure::NoSchema(_)) {
                tracing::warn!("the statistics database is gone, it is made again from the log");
                self.has_schema.store(false, Ordering::Release);
            }
            failure.into()
        })
    }

    fn writer(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatsStore for ClickHouseStore {
    fn batching(&self) -> Batching {
        Batching { is_planned: true, records: RECORDS, gather: GATHER }
    }

    fn insert(&self, batch: &Batch) -> Result<Inserted, Error> {
        let _writer = self.writer();
        self.with(|server| take::batch(server, batch))
    }

    fn offsets(&self) -> Result<HashMap<TopicPartition, u64>, Error> {
        self.with(read::offsets)
    }

    fn log(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Error> {
        let lines: Vec<read::LogRow> =
            self.with(|server| server.ask(&sql::log(filter), read::AS_IT_STANDS))?;
        Ok(lines.into_iter().map(read::log_line).collect())
    }

    fn stats(&self, filter: &StatsFilter, group: Group) -> Result<Vec<StatsLine>, Error> {
        let lines: Vec<read::StatsRow> = self.with(|server| server.ask(&sql::stats(filter, group), &[]))?;
        Ok(lines.into_iter().map(|row| read::stats_line(row, group)).collect())
    }

    fn find(&self, text: &str) -> Result<Vec<String>, Error> {
        let ids: Vec<(String,)> = self.with(|server| server.ask(&sql::find(text), read::AS_IT_STANDS))?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    fn events(&self, message_id: &str) -> Result<Vec<(Timestamp, Position)>, Error> {
        let events: Vec<read::EventRow> =
            self.with(|server| server.ask(&sql::events(message_id), read::AS_IT_STANDS))?;
        Ok(events.into_iter().filter_map(read::event).collect())
    }

    fn expire(&self, limit: Timestamp) -> Result<usize, Error> {
        let mut last = self.writer();
        if last.is_some_and(|last| limit.0 < last.0.saturating_add(EXPIRE_STEP_MS)) {
            return Ok(0);
        }
        let mut rows = 0;
        for (table, age) in schema::AGED {
            // An hour goes as a whole, when the rows of its end go too.
            let below = if age == "hour" { limit.0.saturating_sub(HOUR_MS - 1) } else { limit.0 };
            rows += self.with(|server| read::count(server, table, &format!("{age} < {below}"), &[]))?;
            let sql = format!("DELETE FROM {table} WHERE {age} < {below}");
            if rows > 0 {
                self.with(|server| server.rewrite(&sql, &[]))?;
            }
        }
        if rows > 0 {
            *last = Some(limit);
        }
        Ok(rows)
    }

    fn erase(&self, address: &str) -> Result<usize, Error> {
        let _writer = self.writer();
        self.with(|server| month::erase(server, address))
    }

    fn rebuild(&self, month: Month) -> Result<(), Error> {
        let _writer = self.writer();
        self.with(|server| month::rebuild(server, month))
    }
}

/// A statement without values.
fn plain(sql: impl Into<String>) -> Statement {
    Statement { sql: sql.into(), values: Vec::new() }
}
