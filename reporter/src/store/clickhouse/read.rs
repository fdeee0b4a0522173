//! Answers of the server as the trait gives them.

use std::collections::HashMap;

use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};
use serde::Deserialize;

use super::plain;
use super::server::{Failure, Server};
use crate::store::query::{Group, LogLine, StatsLine};

/// Rows of one key are merged in the answer, as they will be on disk; and UNION is what it is on SQLite.
pub(super) const AS_IT_STANDS: &[(&str, &str)] = &[("final", "1"), ("union_default_mode", "DISTINCT")];

/// Columns in the order of `sql::log`.
#[derive(Deserialize)]
pub(super) struct LogRow(
    String,
    u32,
    i64,
    i64,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    u64,
    u32,
    String,
    String,
    String,
    String,
    String,
    String,
    u8,
);

/// Columns in the order of `sql::stats`.
#[derive(Deserialize)]
pub(super) struct StatsRow(Key, i64, i64, i64, i64, i64, i64, i64, i64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    Hour(i64),
    Name(String),
}

/// Columns in the order of `sql::events`.
#[derive(Deserialize)]
pub(super) struct EventRow(i64, String, u32, u64);

pub(super) fn log_line(row: LogRow) -> LogLine {
    let unless_empty = |text: String| (!text.is_empty()).then_some(text);
    LogLine {
        message_id: row.0,
        recipient: row.1,
        accepted_at: Timestamp(row.2),
        at: Timestamp(row.3),
        user: row.4,
        domain: row.5,
        identity: row.6,
        reverse_path: row.7,
        forward_path: row.8,
        classification: row.9,
        outcome: row.10,
        size_bytes: row.11,
        tries: row.12,
        header_message_id: unless_empty(row.13),
        client_queue_id: unless_empty(row.14),
        subject: unless_empty(row.15),
        reply: unless_empty(row.16),
        remote: unless_empty(row.17),
        egress: unless_empty(row.18),
        own: row.19 != 0,
    }
}

pub(super) fn stats_line(row: StatsRow, group: Group) -> StatsLine {
    let sum = |sum: i64| sum.max(0).unsigned_abs();
    StatsLine {
        group: match row.0 {
            Key::Hour(hour) if group == Group::Hour => Timestamp(hour).rfc3339(),
            Key::Hour(number) => number.to_string(),
            Key::Name(name) => name,
        },
        messages: sum(row.1),
        recipients: sum(row.2),
        bytes: sum(row.3),
        quarantined: sum(row.4),
        delivered: sum(row.5),
        failed: sum(row.6),
        removed: sum(row.7),
        deferrals: sum(row.8),
    }
}

pub(super) fn event(row: EventRow) -> Option<(Timestamp, Position)> {
    let EventRow(at, topic, partition, offset) = row;
    topic_of(&topic).map(|topic| (Timestamp(at), Position { topic, partition, offset }))
}

fn topic_of(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.name() == name)
}

pub(super) fn offsets(server: &Server) -> Result<HashMap<TopicPartition, u64>, Failure> {
    let rows: Vec<(String, u32, u64)> =
        server.ask(&plain("SELECT topic, log_partition, next FROM offsets FINAL"), &[])?;
    let entry = |(topic, partition, next): (String, u32, u64)| {
        topic_of(&topic).map(|topic| (TopicPartition { topic, partition }, next))
    };
    Ok(rows.into_iter().filter_map(entry).collect())
}

pub(super) fn count(
    server: &Server,
    table: &str,
    condition: &str,
    settings: &[(&str, &str)],
) -> Result<usize, Failure> {
    let sql = format!("SELECT count() FROM {table} WHERE {condition}");
    let rows: Vec<(usize,)> = server.ask(&plain(sql), settings)?;
    Ok(rows.first().map_or(0, |(count,)| *count))
}
