//! A partition being followed without a group.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::shared::Shared;
use crate::{LogError, Record, Tail};

pub(super) struct EmbeddedTail {
    shared: Arc<Shared>,
    index: usize,
    position: u64,
    notify: Arc<Notify>,
}

impl EmbeddedTail {
    pub(super) fn open(shared: Arc<Shared>, index: usize, position: u64) -> Self {
        let notify = Arc::new(Notify::new());
        shared.partitions[index].listen(&notify);
        EmbeddedTail { shared, index, position, notify }
    }
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            self.shared.up()?;
            let (records, next) = self.shared.fetch(self.index, self.position, max.max(1)).await?;
            let moved = next != self.position;
            self.position = next;
            if !records.is_empty() {
                return Ok(records);
            }
            if !moved {
                self.notify.notified().await;
            }
        }
    }
}

impl Drop for EmbeddedTail {
    fn drop(&mut self) {
        self.shared.partitions[self.index].unlisten(&self.notify);
    }
}
