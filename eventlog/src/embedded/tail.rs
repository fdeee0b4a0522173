//! A partition being followed without a group.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::shared::Shared;
use crate::{LogError, Record, Tail};

/// Announcements that a tail keeps until it is read; the oldest are lost first.
const MAX_HEARD: usize = 10_000;

pub(super) struct EmbeddedTail {
    shared: Arc<Shared>,
    index: usize,
    position: u64,
    notify: Arc<Notify>,
    heard: Arc<Heard>,
}

/// What was announced to a tail.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<VecDeque<Record>>);

impl Heard {
    pub(super) fn push(&self, record: Record) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= MAX_HEARD {
            heard.pop_front();
        }
        heard.push_back(record);
    }

    fn take(&self, max: usize) -> Vec<Record> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = heard.len().min(max);
        heard.drain(..count).collect()
    }
}

impl EmbeddedTail {
    pub(super) fn open(shared: Arc<Shared>, index: usize, position: u64) -> Self {
        let (notify, heard) = (Arc::new(Notify::new()), Arc::default());
        shared.partitions[index].listen(&notify);
        shared.partitions[index].hear(&heard);
        EmbeddedTail { shared, index, position, notify, heard }
    }
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            self.shared.up()?;
            let heard = self.heard.take(max.max(1));
            if !heard.is_empty() {
                return Ok(heard);
            }
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
        self.shared.partitions[self.index].unhear(&self.heard);
    }
}
