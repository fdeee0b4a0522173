//! Plans of statistics batches: the `plans` topic. A store without transactions must be given the same stretch of the log
//! again after a crash; where it ends is written here before the insert.

use serde::{Deserialize, Serialize};

use crate::Topic;
use crate::topics::TopicPartition;

/// The batch of one topic partition that was inserted last, or is to be inserted next. Keyed by [`Plan::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub topic: Topic,
    pub partition: u32,
    /// Its first offset.
    pub first: u64,
    /// The offset after its last record.
    pub next: u64,
}

impl Plan {
    #[must_use]
    pub fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }

    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}
