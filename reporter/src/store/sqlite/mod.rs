//! The store on SQLite: one connection that writes, one that reads, WAL between them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use schemas::{Position, Timestamp, Topic};

use super::StatsStore;
use super::query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};
use crate::Error;
use crate::rows::{Change, RecipientChange, Standing};

const SCHEMA: &str = include_str!("../../../schemas/sql/sqlite.sql");
const VERSION: i64 = 1;
const HOUR_MS: i64 = 3_600_000;

pub struct SqliteStore {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
    reader: Mutex<Option<Connection>>,
}

impl SqliteStore {
    /// # Errors
    /// When the database was written by a newer version. Anything else is tried again at each use.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let store = SqliteStore { path: path.to_owned(), writer: Mutex::new(None), reader: Mutex::new(None) };
        if let Err(error @ Error::Query(_)) = store.write(|_| Ok(())) {
            return Err(error);
        }
        Ok(store)
    }

    /// Runs `work` on the writing connection, opening it when it is not. A failure closes it, so that the next call begins afresh.
    fn write<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        with(&self.writer, || connect(&self.path), work)
    }

    fn read<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        with(&self.reader, || connect(&self.path), work)
    }
}

fn with<T>(
    slot: &Mutex<Option<Connection>>,
    open: impl FnOnce() -> Result<Connection, Error>,
    work: impl FnOnce(&mut Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let connection = match slot.as_mut() {
        Some(connection) => connection,
        None => slot.insert(open()?),
    };
    let result = work(connection);
    if matches!(result, Err(Error::Store(_))) {
        *slot = None;
    }
    result
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The log is the truth: what a crash takes is read from there again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(64);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => {}
        newer => {
            return Err(Error::Query(format!(
                "{} was written by a newer version (schema {newer}, this one knows {VERSION}): run that version, or move the file away to have it made again from the log",
                path.display()
            )));
        }
    }
    Ok(connection)
}

impl StatsStore for SqliteStore {
    fn insert(&self, changes: &[Change], next: &[(Topic, u32, u64)]) -> Result<(), Error> {
        self.write(|connection| {
            let transaction = connection.transaction()?;
            let known = read_offsets(&transaction)?;
            let mut rollup = Rollup::default();
            for change in changes {
                let position = change.position;
                if known.get(&(position.topic, position.partition)).is_some_and(|next| position.offset < *next) {
                    continue;
                }
                apply(&transaction, change, &mut rollup)?;
            }
            rollup.write(&transaction)?;
            for (topic, partition, next) in next {
                transaction
                    .prepare_cached("INSERT INTO offsets (topic, partition, next) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = MAX(next, excluded.next)")?
                    .execute(params![topic.name(), partition, i64_of(*next)])?;
            }
            transaction.commit()?;
            Ok(())
        })
    }

    fn offsets(&self) -> Result<HashMap<(Topic, u32), u64>, Error> {
        self.read(|connection| read_offsets(connection))
    }

    fn log(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Error> {
        self.read(|connection| {
            let (conditions, values) = log_conditions(filter);
            let sql = format!(
                "SELECT message_id, recipient, accepted_at, at, user, domain, identity, reverse_path, forward_path, classification, outcome, size_bytes, tries, header_message_id, client_queue_id, subject, reply, remote, egress, own \
                 FROM recipients WHERE {conditions} ORDER BY accepted_at DESC, message_id, recipient LIMIT {}",
                filter.limit.unwrap_or(100)
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let lines = statement.query_map(params_from_iter(values), log_line)?;
            Ok(lines.collect::<Result<_, _>>()?)
        })
    }

    fn stats(&self, filter: &StatsFilter, group: Group) -> Result<Vec<StatsLine>, Error> {
        self.read(|connection| {
            let column = group.column();
            let mut conditions = Conditions::default();
            conditions.equal("domain", filter.domain.as_deref());
            conditions.equal("user", filter.user.as_deref());
            conditions.equal("identity", filter.identity.as_deref());
            conditions.at_least("hour", filter.since.map(|ms| ms.div_euclid(HOUR_MS) * HOUR_MS));
            conditions.less("hour", filter.until);
            let order = if group == Group::Hour { "1" } else { "2 DESC" };
            let sql = format!(
                "SELECT {column}, SUM(messages), SUM(recipients), SUM(bytes), SUM(quarantined), SUM(delivered), SUM(failed), SUM(removed), SUM(deferrals) \
                 FROM hourly WHERE {} GROUP BY {column} ORDER BY {order}",
                conditions.text()
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let line = |row: &Row<'_>| {
                let name = if group == Group::Hour { Timestamp(row.get(0)?).rfc3339() } else { row.get(0)? };
                Ok(StatsLine {
                    group: name,
                    messages: row.get(1)?,
                    recipients: row.get(2)?,
                    bytes: row.get(3)?,
                    quarantined: row.get(4)?,
                    delivered: row.get(5)?,
                    failed: row.get(6)?,
                    removed: row.get(7)?,
                    deferrals: row.get(8)?,
                })
            };
            let lines = statement.query_map(params_from_iter(conditions.values), line)?;
            Ok(lines.collect::<Result<_, _>>()?)
        })
    }

    fn find(&self, text: &str) -> Result<Vec<String>, Error> {
        let text = text.trim().trim_start_matches('<').trim_end_matches('>');
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT message_id FROM recipients WHERE message_id = ?1 UNION SELECT message_id FROM recipients WHERE client_queue_id = ?2 \
                 UNION SELECT message_id FROM recipients WHERE header_message_id = ?2 UNION SELECT message_id FROM events WHERE message_id = ?1 ORDER BY 1 DESC LIMIT 100",
            )?;
            let found = statement.query_map(params![text.to_ascii_uppercase(), text], |row| row.get(0))?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }

    fn events(&self, message_id: &str) -> Result<Vec<(Timestamp, Position)>, Error> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT at, topic, partition, offset FROM events WHERE message_id = ? ORDER BY at, topic DESC, offset")?;
            let event = |row: &Row<'_>| {
                let (at, topic, partition, offset): (i64, String, u32, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(topic_of(&topic).map(|topic| (Timestamp(at), Position { topic, partition, offset: offset.unsigned_abs() })))
            };
            let events = statement.query_map([message_id], event)?;
            Ok(events.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
    }

    fn expire(&self, limit: Timestamp) -> Result<usize, Error> {
        self.write(|connection| {
            let slice = "DELETE FROM recipients WHERE (message_id, recipient) IN (SELECT message_id, recipient FROM recipients WHERE accepted_at < ? LIMIT 5000)";
            let rows = connection.execute(slice, [limit.0])?;
            let events = "DELETE FROM events WHERE (message_id, topic, partition, offset) IN (SELECT message_id, topic, partition, offset FROM events WHERE at < ? LIMIT 5000)";
            let events = connection.execute(events, [limit.0])?;
            Ok(rows + events)
        })
    }

    fn erase(&self, address: &str) -> Result<usize, Error> {
        self.write(|connection| {
            let transaction = connection.transaction()?;
            let mut rows = 0;
            for column in ["forward_path", "reverse_path", "identity"] {
                rows += transaction.execute(&format!("UPDATE recipients SET {column} = 'erased', subject = NULL WHERE {column} = ? COLLATE NOCASE"), [address])?;
            }
            // Two identities may become one row of sums.
            transaction.execute(
                "INSERT INTO hourly SELECT hour, domain, user, 'erased', from_domain, destination, classification, SUM(messages), SUM(recipients), SUM(bytes), SUM(quarantined), SUM(delivered), SUM(failed), SUM(removed), SUM(deferrals) \
                 FROM hourly WHERE identity = ?1 COLLATE NOCASE GROUP BY hour, domain, user, from_domain, destination, classification \
                 ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, recipients = recipients + excluded.recipients, bytes = bytes + excluded.bytes, quarantined = quarantined + excluded.quarantined, \
                 delivered = delivered + excluded.delivered, failed = failed + excluded.failed, removed = removed + excluded.removed, deferrals = deferrals + excluded.deferrals",
                [address],
            )?;
            transaction.execute("DELETE FROM hourly WHERE identity = ? COLLATE NOCASE", [address])?;
            transaction.commit()?;
            Ok(rows)
        })
    }
}

fn i64_of(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn topic_of(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.name() == name)
}

fn read_offsets(connection: &Connection) -> Result<HashMap<(Topic, u32), u64>, Error> {
    let mut statement = connection.prepare_cached("SELECT topic, partition, next FROM offsets")?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
    let mut offsets = HashMap::new();
    for row in rows {
        let (topic, partition, next) = row?;
        if let Some(topic) = topic_of(&topic) {
            offsets.insert((topic, partition), next.unsigned_abs());
        }
    }
    Ok(offsets)
}

/// Applies one change to the rows, and what moved to the sums.
fn apply(transaction: &Transaction<'_>, change: &Change, rollup: &mut Rollup) -> Result<(), Error> {
    let id = change.message.id.to_string();
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO events (message_id, at, topic, partition, offset) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![
            id,
            change.at.0,
            change.position.topic.name(),
            change.position.partition,
            i64_of(change.position.offset)
        ])?;
    if let Some(standing) = change.whole_message {
        let mut statement = transaction
            .prepare_cached("SELECT recipient, outcome, destination FROM recipients WHERE message_id = ?")?;
        let rows: Vec<(u32, String, String)> = statement
            .query_map([&id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        for (recipient, before, destination) in rows {
            transaction
                .prepare_cached(
                    "UPDATE recipients SET outcome = ?, at = ? WHERE message_id = ? AND recipient = ?",
                )?
                .execute(params![standing.code(), change.at.0, id, recipient])?;
            rollup.moved(change, &destination, Standing::parse(&before), standing);
        }
        return Ok(());
    }
    for recipient in &change.recipients {
        apply_recipient(transaction, change, recipient, &id, rollup)?;
    }
    Ok(())
}

fn apply_recipient(
    transaction: &Transaction<'_>,
    change: &Change,
    recipient: &RecipientChange,
    id: &str,
    rollup: &mut Rollup,
) -> Result<(), Error> {
    let message = &change.message;
    let destination = recipient.forward_path.domain().as_str();
    let before: Option<String> = transaction
        .prepare_cached("SELECT outcome FROM recipients WHERE message_id = ? AND recipient = ?")?
        .query_row(params![id, recipient.recipient], |row| row.get(0))
        .optional()?;
    if before.is_none() {
        rollup.first_seen(change, recipient, destination);
    }
    let before = before.as_deref().and_then(Standing::parse);
    // A verdict that is read after the attempt, from another partition's turn, must not take an outcome back.
    let finished = matches!(before, Some(Standing::Delivered | Standing::Failed | Standing::Removed));
    if finished && !recipient.tried {
        return Ok(());
    }
    rollup.moved(change, destination, before, recipient.standing);
    if recipient.deferred {
        rollup.line(change, destination).deferrals += 1;
    }
    transaction
        .prepare_cached(
            "INSERT INTO recipients (message_id, recipient, forward_path, outcome, at, accepted_at, user, domain, identity, reverse_path, from_domain, destination, classification, size_bytes, header_message_id, client_queue_id, subject, own, tries, reply, remote, egress) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET outcome = excluded.outcome, at = excluded.at, tries = tries + excluded.tries, reply = excluded.reply, remote = excluded.remote, egress = excluded.egress",
        )?
        .execute(params![
            id,
            recipient.recipient,
            recipient.forward_path.to_string(),
            recipient.standing.code(),
            change.at.0,
            message.accepted_at.0,
            message.user.as_str(),
            message.domain.as_str(),
            message.identity.0,
            message.reverse_path.to_string(),
            message.header_from.as_ref().map(schemas::Domain::as_str),
            destination,
            message.classification.code(),
            i64_of(message.size_bytes),
            message.header_message_id,
            message.client_queue_id,
            message.subject,
            message.own,
            u32::from(recipient.tried),
            recipient.reply,
            recipient.remote,
            recipient.egress,
        ])?;
    Ok(())
}

/// Sums of a batch, gathered in memory.
#[derive(Default)]
struct Rollup {
    lines: HashMap<HourKey, Sums>,
}

#[derive(PartialEq, Eq, Hash)]
struct HourKey {
    hour: i64,
    domain: String,
    user: String,
    identity: String,
    from_domain: String,
    destination: String,
    classification: &'static str,
}

#[derive(Default)]
struct Sums {
    messages: i64,
    recipients: i64,
    bytes: i64,
    quarantined: i64,
    delivered: i64,
    failed: i64,
    removed: i64,
    deferrals: i64,
}

impl Rollup {
    fn line(&mut self, change: &Change, destination: &str) -> &mut Sums {
        let message = &change.message;
        let key = HourKey {
            hour: message.accepted_at.0.div_euclid(HOUR_MS) * HOUR_MS,
            domain: message.domain.to_string(),
            user: message.user.0.clone(),
            identity: message.identity.0.clone(),
            from_domain: message.header_from.as_ref().map(ToString::to_string).unwrap_or_default(),
            destination: destination.to_owned(),
            classification: message.classification.code(),
        };
        self.lines.entry(key).or_default()
    }

    fn first_seen(&mut self, change: &Change, recipient: &RecipientChange, destination: &str) {
        if change.message.own {
            return;
        }
        let line = self.line(change, destination);
        line.recipients += 1;
        if recipient.recipient == 0 {
            line.messages += 1;
            line.bytes += i64_of(change.message.size_bytes);
        }
    }

    fn moved(&mut self, change: &Change, destination: &str, before: Option<Standing>, after: Standing) {
        if change.message.own || before == Some(after) {
            return;
        }
        let line = self.line(change, destination);
        for (standing, step) in before.map(|b| (b, -1)).into_iter().chain([(after, 1)]) {
            match standing {
                Standing::Quarantined => line.quarantined += step,
                Standing::Queued => {}
                Standing::Delivered => line.delivered += step,
                Standing::Failed => line.failed += step,
                Standing::Removed => line.removed += step,
            }
        }
    }

    fn write(self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO hourly (hour, domain, user, identity, from_domain, destination, classification, messages, recipients, bytes, quarantined, delivered, failed, removed, deferrals) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, recipients = recipients + excluded.recipients, bytes = bytes + excluded.bytes, quarantined = quarantined + excluded.quarantined, \
             delivered = delivered + excluded.delivered, failed = failed + excluded.failed, removed = removed + excluded.removed, deferrals = deferrals + excluded.deferrals",
        )?;
        for (key, sums) in self.lines {
            statement.execute(params![
                key.hour,
                key.domain,
                key.user,
                key.identity,
                key.from_domain,
                key.destination,
                key.classification,
                sums.messages,
                sums.recipients,
                sums.bytes,
                sums.quarantined,
                sums.delivered,
                sums.failed,
                sums.removed,
                sums.deferrals
            ])?;
        }
        Ok(())
    }
}

/// A WHERE clause being put together.
#[derive(Default)]
struct Conditions {
    parts: Vec<String>,
    values: Vec<rusqlite::types::Value>,
}

impl Conditions {
    fn add(&mut self, part: &str, value: impl Into<rusqlite::types::Value>) {
        self.parts.push(part.to_owned());
        self.values.push(value.into());
    }

    fn equal(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(&format!("{column} = ?"), value.to_owned());
        }
    }

    fn at_least(&mut self, column: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(&format!("{column} >= ?"), value);
        }
    }

    fn less(&mut self, column: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(&format!("{column} < ?"), value);
        }
    }

    fn text(&self) -> String {
        if self.parts.is_empty() { "1".to_owned() } else { self.parts.join(" AND ") }
    }
}

fn log_conditions(filter: &LogFilter) -> (String, Vec<rusqlite::types::Value>) {
    let mut conditions = Conditions::default();
    if let Some(id) = &filter.id {
        let id = id.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        conditions.parts.push("(message_id = ? OR client_queue_id = ? OR header_message_id = ?)".to_owned());
        conditions.values.extend([id.to_ascii_uppercase().into(), id.clone().into(), id.into()]);
    }
    conditions.equal("user", filter.user.as_deref());
    conditions.equal("domain", filter.domain.as_deref());
    conditions.equal("identity", filter.identity.as_deref());
    conditions.equal("classification", filter.classification.as_deref());
    conditions.equal("outcome", filter.outcome.as_deref());
    match filter.recipient.as_deref() {
        Some(recipient) if recipient.starts_with('@') => {
            conditions.equal("destination", Some(&recipient[1..]))
        }
        recipient => conditions.equal("forward_path", recipient),
    }
    conditions.equal(
        "reverse_path",
        filter.reverse_path.as_deref().map(|path| if path == "<>" { "" } else { path }),
    );
    conditions.at_least("accepted_at", filter.since);
    conditions.less("accepted_at", filter.until);
    if !filter.own && filter.id.is_none() {
        conditions.add("own = ?", 0i64);
    }
    (conditions.text(), conditions.values)
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
