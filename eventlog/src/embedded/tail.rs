//! Following one partition without a group.

use std::sync::Arc;

use async_trait::async_trait;
use schemas::Topic;
use tokio::sync::Notify;

use super::store::Shared;
use crate::{LogError, Record, Tail, TailFrom};

pub(super) struct EmbeddedTail {
    shared: Arc<Shared>,
    topic: Topic,
    partition: u32,
    next: u64,
    wake: Arc<Notify>,
}

impl EmbeddedTail {
    pub(super) fn open(
        shared: &Arc<Shared>,
        topic: Topic,
        partition: u32,
        from: TailFrom,
    ) -> Result<Self, LogError> {
        shared.check_partition(topic, partition)?;
        let wake = Arc::new(Notify::new());
        shared.register(&[topic], &wake);
        let next = match from {
            TailFrom::End => shared.store()?.end(topic, partition),
            TailFrom::Offset(offset) => offset,
        };
        Ok(EmbeddedTail { shared: Arc::clone(shared), topic, partition, next, wake })
    }
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let (records, next) = self.shared.read_on(self.topic, self.partition, self.next, max).await?;
            self.next = next;
            if !records.is_empty() {
                return Ok(records);
            }
            self.wake.notified().await;
        }
    }
}
