//! The store on SQLite: one connection that writes, one that reads, WAL between them.

mod apply;
mod connection;
mod rollup;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Row, ToSql, params, params_from_iter};
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

use super::query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};
use super::sql::{self, HOUR_MS, Statement, Value};
use super::{Batch, Batching, Inserted, Month, StatsStore};
use crate::Error;
use connection::Slot;
use rollup::Rollup;

/// Rows that one call of `expire` deletes from a table at most: the lock is free in between.
const SLICE: i64 = 5000;

pub struct SqliteStore {
    path: PathBuf,
    writer: Slot,
    reader: Slot,
}

impl SqliteStore {
    /// # Errors
    /// When the database was written by a newer version. Anything else is tried again at each use.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let store = SqliteStore { path: path.to_owned(), writer: Slot::default(), reader: Slot::default() };
        match store.write(|_| Ok(())) {
            Err(error @ Error::Query(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "statistics wait for their store");
                Ok(store)
            }
            Ok(()) => Ok(store),
        }
    }

    fn write<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T, Error> {
        self.writer.with(&self.path, |connection| work(connection).map_err(|failure| self.told(failure)))
    }

    fn read<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T, Error> {
        self.reader.with(&self.path, |connection| work(connection).map_err(|failure| self.told(failure)))
    }

    fn told(&self, Failure(error): Failure) -> Error {
        Error::Store(connection::describe(&self.path, &error))
    }

    fn ask<T>(
        &self,
        statement: Statement,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.read(|connection| {
            let mut prepared = connection.prepare_cached(&statement.sql)?;
            let rows = prepared.query_map(params_from_iter(statement.values), read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// A failure of SQLite, before the file it concerns is named.
struct Failure(rusqlite::Error);

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure(error)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Value::Text(text) => text.to_sql(),
            Value::Integer(integer) => integer.to_sql(),
        }
    }
}

impl StatsStore for SqliteStore {
    fn batching(&self) -> Batching {
        Batching { is_planned: false, records: 2000, gather: Duration::from_millis(100) }
    }

    fn insert(&self, batch: &Batch) -> Result<Inserted, Error> {
        self.write(|connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let taken = read_offsets(&transaction)?;
            if batch.covered.iter().any(|c| taken.get(&c.at).copied().unwrap_or(0) < c.from) {
                return Ok(Inserted::Behind);
            }
            let mut rollup = Rollup::default();
            for change in &batch.changes {
                apply::change(&transaction, change, &mut rollup)?;
            }
            rollup.write(&transaction)?;
            for covered in &batch.covered {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO offsets (topic, log_partition, next) VALUES (?, ?, ?)",
                    )?
                    .execute(params![covered.at.topic.name(), covered.at.partition, integer(covered.next)])?;
            }
            transaction.commit()?;
            Ok(Inserted::Taken)
        })
    }

    fn offsets(&self) -> Result<HashMap<TopicPartition, u64>, Error> {
        self.read(|connection| Ok(read_offsets(connection)?))
    }

    fn log(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Error> {
        self.ask(sql::log(filter), log_line)
    }

    fn stats(&self, filter: &StatsFilter, group: Group) -> Result<Vec<StatsLine>, Error> {
        self.ask(sql::stats(filter, group), |row| stats_line(row, group))
    }

    fn find(&self, text: &str) -> Result<Vec<String>, Error> {
        self.ask(sql::find(text), |row| row.get(0))
    }

    fn events(&self, message_id: &str) -> Result<Vec<(Timestamp, Position)>, Error> {
        let event = |row: &Row<'_>| {
            let topic: String = row.get(1)?;
            let (partition, offset) = (row.get(2)?, row.get::<_, i64>(3)?.unsigned_abs());
            let at = Timestamp(row.get(0)?);
            Ok(topic_of(&topic).map(|topic| (at, Position { topic, partition, offset })))
        };
        Ok(self.ask(sql::events(message_id), event)?.into_iter().flatten().collect())
    }

    fn expire(&self, limit: Timestamp) -> Result<usize, Error> {
        self.write(|connection| {
            let rows = connection.execute(
                "DELETE FROM recipients WHERE rowid IN (SELECT rowid FROM recipients WHERE accepted_at < ? LIMIT ?)",
                [limit.0, SLICE],
            )?;
            let events = connection.execute(
                "DELETE FROM events WHERE (message_id, event_id) IN (SELECT message_id, event_id FROM events WHERE at < ? LIMIT ?)",
                [limit.0, SLICE],
            )?;
            // An hour goes as a whole, when the rows of its end go too.
            let hours = connection.execute(
                "DELETE FROM hourly WHERE rowid IN (SELECT rowid FROM hourly WHERE hour <= ? LIMIT ?)",
                [limit.0.saturating_sub(HOUR_MS), SLICE],
            )?;
            Ok(rows + events + hours)
        })
    }

    fn erase(&self, address: &str) -> Result<usize, Error> {
        self.write(|connection| {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let mut rows = 0;
            for column in ["forward_path", "reverse_path", "identity"] {
                // Replies of servers like to repeat the address.
                let sql = format!(
                    "UPDATE recipients SET {column} = 'erased', subject = NULL, reply = NULL WHERE {column} = ? COLLATE NOCASE"
                );
                rows += transaction.execute(&sql, [address])?;
            }
            // Two identities may become one row of sums.
            transaction.execute(
                "INSERT INTO hourly (hour, domain, user, identity, from_domain, destination, classification, messages, \
                 recipients, bytes, quarantined, delivered, failed, removed, deferrals) \
                 SELECT hour, domain, user, 'erased', from_domain, destination, classification, SUM(messages), \
                 SUM(recipients), SUM(bytes), SUM(quarantined), SUM(delivered), SUM(failed), SUM(removed), SUM(deferrals) \
                 FROM hourly WHERE identity = ? COLLATE NOCASE \
                 GROUP BY hour, domain, user, from_domain, destination, classification \
                 ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, \
                 recipients = recipients + excluded.recipients, bytes = bytes + excluded.bytes, \
                 quarantined = quarantined + excluded.quarantined, delivered = delivered + excluded.delivered, \
                 failed = failed + excluded.failed, removed = removed + excluded.removed, \
                 deferrals = deferrals + excluded.deferrals",
                [address],
            )?;
            transaction.execute("DELETE FROM hourly WHERE identity = ? COLLATE NOCASE", [address])?;
            transaction.commit()?;
            Ok(rows)
        })
    }

    fn rebuild(&self, _month: Month) -> Result<(), Error> {
        Err(Error::Query(format!(
            "SQLite takes each batch as one transaction, so no part of it can be wrong by itself; to have it made again \
             from the log, stop the node, move {} away and start the node",
            self.path.display()
        )))
    }
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn topic_of(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.name() == name)
}

fn read_offsets(connection: &Connection) -> rusqlite::Result<HashMap<TopicPartition, u64>> {
    let mut statement = connection.prepare_cached("SELECT topic, log_partition, next FROM offsets")?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?));
    let mut offsets = HashMap::new();
    for entry in statement.query_map([], row)? {
        let (topic, partition, next) = entry?;
        if let Some(topic) = topic_of(&topic) {
            offsets.insert(TopicPartition { topic, partition }, next.unsigned_abs());
        }
    }
    Ok(offsets)
}

fn stats_line(row: &Row<'_>, group: Group) -> rusqlite::Result<StatsLine> {
    // A sum below zero would mean that an hour was deleted under its rows; it is none the less no number of messages.
    let sum = |column: usize| row.get::<_, i64>(column).map(|sum| sum.max(0).unsigned_abs());
    Ok(StatsLine {
        group: if group == Group::Hour { Timestamp(row.get(0)?).rfc3339() } else { row.get(0)? },
        messages: sum(1)?,
        recipients: sum(2)?,
        bytes: sum(3)?,
        quarantined: sum(4)?,
        delivered: sum(5)?,
        failed: sum(6)?,
        removed: sum(7)?,
        deferrals: sum(8)?,
    })
}

fn log_line(row: &Row<'_>) -> rusqlite::Result<LogLine> {
    Ok(LogLine {
        message_id: row.get(0)?,
        recipient: row.get(1)?,
        accepted_at: Timestamp(row.get(2)?),
        at: Timestamp(row.get(3)?),
        user: row.get(4)?,
        domain: row.get(5)?,
        identity: row.get(6)?,
        reverse_path: row.get(7)?,
        forward_path: row.get(8)?,
        classification: row.get(9)?,
        outcome: row.get(10)?,
        size_bytes: row.get(11)?,
        tries: row.get(12)?,
        header_message_id: row.get(13)?,
        client_queue_id: row.get(14)?,
        subject: row.get(15)?,
        reply: row.get(16)?,
        remote: row.get(17)?,
        egress: row.get(18)?,
        own: row.get(19)?,
    })
}
