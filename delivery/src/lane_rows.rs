//! The lane of a node as it stands in the log.

use std::collections::HashMap;

use bytes::Bytes;
use eventlog::{Log, LogError, Record, TableEvent};
use schemas::Topic;
use schemas::queue::{self, QueueEntry};

/// The queue entries of a node. Of a key that stands in the partition more than once only the newest row counts, be it of
/// another node whose lane is in the same one.
///
/// # Errors
/// What the log says.
pub(crate) async fn read(log: &Log, node: &str) -> Result<Vec<QueueEntry>, LogError> {
    let partition = log.partition_of(Topic::Queue, &queue::lane_key(node));
    let mut table = log.table(Topic::Queue, Some(&[partition])).await?;
    let mut rows = HashMap::new();
    loop {
        for event in table.next(1000).await? {
            match event {
                TableEvent::CaughtUp => return Ok(rows.into_values().collect()),
                TableEvent::Row(row) => take(&mut rows, &row, node),
            }
        }
    }
}

fn take(rows: &mut HashMap<Bytes, QueueEntry>, row: &Record, node: &str) {
    let Some(value) = &row.value else {
        rows.remove(&row.key);
        return;
    };
    match serde_json::from_slice::<QueueEntry>(value) {
        Ok(entry) if entry.node == node => drop(rows.insert(row.key.clone(), entry)),
        // It may have been ours, and was moved away.
        Ok(_) => drop(rows.remove(&row.key)),
        Err(error) => {
            tracing::error!(position = %row.position, %error, "a queue entry does not parse; its message is not delivered");
        }
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
        for (nodes, expected) in [
            (vec![Some("a")], 1),
            (vec![Some("a"), Some("b")], 0),
            (vec![Some("b"), Some("a")], 1),
            (vec![Some("a"), None], 0),
        ] {
            let mut rows = HashMap::new();
            for (offset, node) in (0..).zip(&nodes) {
                take(&mut rows, &row(*node, offset), "a");
            }
            assert_eq!(rows.len(), expected, "{nodes:?}");
        }
    }
}
