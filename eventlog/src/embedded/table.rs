//! Following a compacted topic.

use std::sync::Arc;

use async_trait::async_trait;
use schemas::Topic;
use tokio::sync::Notify;

use super::store::Shared;
use crate::{LogError, Table, TableEvent};

pub(super) struct EmbeddedTable {
    shared: Arc<Shared>,
    topic: Topic,
    cursors: Vec<Cursor>,
    caught_up: bool,
    wake: Arc<Notify>,
}

struct Cursor {
    partition: u32,
    next: u64,
    /// The end when the table was opened.
    caught_up_at: u64,
}

impl EmbeddedTable {
    pub(super) fn open(
        shared: &Arc<Shared>,
        topic: Topic,
        partitions: Option<&[u32]>,
    ) -> Result<Self, LogError> {
        let all: Vec<u32> = (0..shared.config.partitions_of(topic)).collect();
        let store = shared.store()?;
        let mut cursors = Vec::new();
        for partition in partitions.unwrap_or(&all) {
            shared.check_partition(topic, *partition)?;
            cursors.push(Cursor {
                partition: *partition,
                next: 0,
                caught_up_at: store.end(topic, *partition),
            });
        }
        let wake = Arc::new(Notify::new());
        shared.register(&[topic], &wake);
        Ok(EmbeddedTable { shared: Arc::clone(shared), topic, cursors, caught_up: false, wake })
    }
}

#[async_trait]
impl Table for EmbeddedTable {
    async fn next(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError> {
        loop {
            let mut events = Vec::new();
            for cursor in &mut self.cursors {
                if events.len() >= max {
                    break;
                }
                let (records, next) = self
                    .shared
                    .read_on(self.topic, cursor.partition, cursor.next, max - events.len())
                    .await?;
                // Nothing is awaited between here and the return: a cancelled call moved no cursor past what it gave.
                cursor.next = next;
                events.extend(records.into_iter().map(TableEvent::Row));
                if !events.is_empty() {
                    break;
                }
            }
            if !self.caught_up && self.cursors.iter().all(|cursor| cursor.next >= cursor.caught_up_at) {
                self.caught_up = true;
                events.push(TableEvent::CaughtUp);
            }
            if !events.is_empty() {
                return Ok(events);
            }
            self.wake.notified().await;
        }
    }
}
