//! The lane of a node as it stands in the log.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Log, LogError, Record, Table, TableEvent};
use schemas::Topic;
use schemas::queue::{self, QueueEntry};

use crate::Metrics;

/// Before a table that cannot be read is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The queue entries of a node, and what follows them. Of a key that stands in the partition more than once only the newest
/// row counts, be it of another node whose lane is in the same one.
///
/// # Errors
/// What the log says.
pub(crate) async fn read(
    log: &Log,
    node: &str,
    metrics: &Metrics,
) -> Result<(Vec<QueueEntry>, Arrivals), LogError> {
    let partition = log.partition_of(Topic::Queue, &queue::lane_key(node));
    let mut table = log.table(Topic::Queue, Some(&[partition])).await?;
    let (mut rows, mut is_caught_up) = (HashMap::new(), false);
    let mut arrivals = Vec::new();
    while !is_caught_up {
        for event in table.next(1000).await? {
            match event {
                TableEvent::CaughtUp => is_caught_up = true,
                TableEvent::Row(row) if is_caught_up => arrivals.extend(arrival(&row, node, metrics)),
                TableEvent::Row(row) => take(&mut rows, &row, node, metrics),
            }
        }
    }
    let entries = rows.into_values().map(|entry| QueueEntry { passed_on_at: None, ..entry }).collect();
    let rest = Arrivals { table, found: arrivals, node: node.to_owned(), metrics: metrics.clone() };
    Ok((entries, rest))
}

/// What other nodes put into the lane since it was read.
pub(crate) struct Arrivals {
    table: Box<dyn Table>,
    found: Vec<QueueEntry>,
    node: String,
    metrics: Metrics,
}

impl Arrivals {
    /// The next ones, at least one. Safe to cancel.
    ///
    /// # Errors
    /// When the log is of no more use.
    pub(crate) async fn next(&mut self) -> Result<Vec<QueueEntry>, LogError> {
        while self.found.is_empty() {
            match self.table.next(1000).await {
                Ok(events) => {
                    let (node, metrics) = (&self.node, &self.metrics);
                    self.found.extend(events.iter().filter_map(|event| match event {
                        TableEvent::Row(row) => arrival(row, node, metrics),
                        TableEvent::CaughtUp => None,
                    }));
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "the lane cannot be followed, trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.found))
    }
}

/// The entry of a row that another node wrote for this one; none when it is our own, or of the other's lane.
fn arrival(row: &Record, node: &str, metrics: &Metrics) -> Option<QueueEntry> {
    let entry = parse(row, row.value.as_ref()?, metrics)?;
    (entry.node == node && entry.passed_on_at.is_some()).then_some(entry)
}

fn parse(row: &Record, value: &Bytes, metrics: &Metrics) -> Option<QueueEntry> {
    serde_json::from_slice(value)
        .inspect_err(|error| {
            metrics.undecodable.inc();
            tracing::error!(position = %row.position, %error, "a queue entry does not parse; its message is not delivered");
        })
        .ok()
}

fn take(rows: &mut HashMap<Bytes, QueueEntry>, row: &Record, node: &str, metrics: &Metrics) {
    let Some(value) = &row.value else {
        rows.remove(&row.key);
        return;
    };
    match parse(row, value, metrics) {
        Some(entry) if entry.node == node => drop(rows.insert(row.key.clone(), entry)),
        // It may have been ours, and was moved away.
        Some(_) => drop(rows.remove(&row.key)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Position, Timestamp};

    use super::*;

    #[test]
    fn an_entry_that_was_moved_away_is_not_ours_any_more() {
        let row = |node: Option<&str>, offset| Record {
            position: Position { topic: Topic::Queue, partition: 0, offset },
            key: "key".into(),
            value: node.map(|node| {
                let sample = include_str!("../../schemas/golden/queue/entry.json");
                let entry: QueueEntry = serde_json::from_str(sample).expect("an entry");
                serde_json::to_vec(&QueueEntry { node: node.into(), ..entry }).expect("JSON").into()
            }),
            appended_at: Timestamp(0),
        };
        let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default());
        for (nodes, expected) in [
            (vec![Some("a")], 1),
            (vec![Some("a"), Some("b")], 0),
            (vec![Some("b"), Some("a")], 1),
            (vec![Some("a"), None], 0),
        ] {
            let mut rows = HashMap::new();
            for (offset, node) in (0..).zip(&nodes) {
                take(&mut rows, &row(*node, offset), "a", &metrics);
            }
            assert_eq!(rows.len(), expected, "{nodes:?}");
        }
    }
}
