//! A batch into the table: what is known of its messages, the rows that follow, and the offsets behind them.

use std::collections::HashSet;

use super::again::{self, Again};
use super::cut::{self, Cut, MAX_ROWS};
use super::fold::{ERASED, Earlier, Fold};
use super::month::{self, Month};
use super::pause;
use super::plain;
use super::read;
use super::row::{self, COLUMNS, Row};
use super::server::{Failure, Server};
use crate::rows::Standing;
use crate::store::{Batch, Inserted};

/// Messages whose earlier rows one statement asks for.
const ASKED: usize = 20_000;
/// A statement with the ids of so many messages is longer than the server's default allows.
const LONG: &[(&str, &str)] = &[("max_query_size", "16777216")];

pub(super) fn batch(server: &Server, batch: &Batch) -> Result<Inserted, Failure> {
    pause::none(server)?;
    let taken = read::offsets(server)?;
    if batch.covered.iter().any(|covered| taken.get(&covered.at).copied().unwrap_or(0) < covered.from) {
        return Ok(Inserted::Behind);
    }
    for cut in cut::cuts(batch) {
        insert(server, &cut)?;
    }
    write_offsets(server, batch)?;
    Ok(Inserted::Taken)
}

fn insert(server: &Server, cut: &Cut<'_>) -> Result<(), Failure> {
    let known = known(server, cut)?;
    let again = match known.inserted {
        Some(inserted) => again::ask(server, Month(cut.month), inserted)?,
        None => Again::Insert,
    };
    let mut fold = Fold::after(known.earlier, cut.at.topic);
    let mut rows = Vec::with_capacity(cut.changes.len());
    for change in &cut.changes {
        fold.rows(change, &mut rows);
    }
    if again == Again::Insert {
        return send(server, cut, &rows, Some(&cut.name));
    }
    // Of an insert in several parts some may be missing. What is there stays as it is, with the time it came.
    rows.retain(|row| !known.mine.contains(&key(row)));
    if again == Again::Nothing && rows.is_empty() {
        return Ok(());
    }
    tracing::warn!(batch = cut.name, "an insert was interrupted, the sums of its month are made again");
    send(server, cut, &rows, None)?;
    month::rebuild(server, Month(cut.month))
}

/// Each part is one block; `name`: by which the server knows the same rows when they come again.
fn send(server: &Server, cut: &Cut<'_>, rows: &[Row<'_>], name: Option<&str>) -> Result<(), Failure> {
    for (part, rows) in rows.chunks(MAX_ROWS).enumerate() {
        let mut bytes = Vec::with_capacity(rows.len() * 400);
        for row in rows {
            row.encode(&cut.name, &mut bytes);
        }
        let token = name.map(|name| format!("{name}/{part}"));
        server.insert(&format!("outcomes ({COLUMNS})"), &bytes, token.as_deref())?;
    }
    Ok(())
}

type Key = (String, u32, String);

fn key(row: &Row<'_>) -> Key {
    (row.change.message.id.to_string(), row.recipient, row.change.event_id.clone())
}

struct Known {
    earlier: Vec<Earlier>,
    /// When rows of this very insert came into the table, if they did.
    inserted: Option<i64>,
    /// Those rows.
    mine: HashSet<Key>,
}

/// What the table has of the messages of `cut`. Rows of the insert itself do not count: after a crash they may be there,
/// and it must come to the same rows again.
fn known(server: &Server, cut: &Cut<'_>) -> Result<Known, Failure> {
    let mut ids: Vec<String> = cut.changes.iter().map(|change| change.message.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let topic = cut.at.topic.name();
    let month = cut.month;
    let mut known = Known { earlier: Vec::new(), inserted: None, mine: HashSet::new() };
    for ids in ids.chunks(ASKED) {
        let list = ids.join("','");
        let sql = format!(
            "SELECT message_id, event_id, topic = '{topic}', recipient, toString(outcome), at, log_offset, forward_path, \
             destination, identity, reverse_path, batch = '{}', toUnixTimestamp64Milli(inserted_at) FROM outcomes \
             WHERE toYYYYMM(fromUnixTimestamp64Milli(accepted_at, 'UTC')) = {month} AND message_id IN ('{list}') \
             AND (topic = '{topic}' OR forward_path = '{ERASED}' OR identity = '{ERASED}' OR reverse_path = '{ERASED}')",
            cut.name
        );
        for row in server.ask::<KnownRow>(&plain(sql), LONG)? {
            known.add(row);
        }
    }
    Ok(known)
}

type KnownRow = (String, String, u8, u32, String, i64, u64, String, String, String, String, u8, i64);

impl Known {
    fn add(&mut self, row: KnownRow) {
        let (message_id, event_id, same_topic, recipient, outcome, at, offset, ..) = row;
        let (.., forward_path, destination, identity, reverse_path, is_mine, inserted) = row;
        let is_mine = is_mine != 0;
        if is_mine {
            self.inserted = self.inserted.min(Some(inserted)).or(Some(inserted));
            self.mine.insert((message_id.clone(), recipient, event_id.clone()));
        }
        self.earlier.push(Earlier {
            message_id,
            event_id,
            same_topic: same_topic != 0 && !is_mine,
            recipient,
            outcome: Standing::parse(&outcome),
            order: (at, offset),
            forward_path,
            destination,
            identity,
            reverse_path,
        });
    }
}

/// After the rows: a crash between the two leaves the offset behind, and the same insert is repeated.
fn write_offsets(server: &Server, batch: &Batch) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for covered in &batch.covered {
        row::text(&mut bytes, covered.at.topic.name());
        bytes.extend(covered.at.partition.to_le_bytes());
        bytes.extend(covered.next.to_le_bytes());
    }
    if bytes.is_empty() {
        return Ok(());
    }
    server.insert("offsets (topic, log_partition, next)", &bytes, None)
}
