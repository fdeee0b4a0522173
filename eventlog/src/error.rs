//! What can go wrong, told so that the caller knows what to answer.

use schemas::{Position, Topic};

/// An error of the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Not now: a write failed, the disk is full, the brokers are away. A client gets 451; a worker tries again.
    #[error("the log cannot be written or read now: {0}")]
    Unavailable(String),
    /// The record is larger than any engine takes. Nothing of the batch was written. The caller's fault.
    #[error("{what} of a record for `{topic}` is {size} bytes, the maximum is {max}")]
    TooLarge { topic: Topic, what: &'static str, size: usize, max: usize },
    /// Another member took over the partitions or the slot. Nothing was written; this consumer must be dropped.
    #[error("fenced: another member of group `{group}` took over ({detail})")]
    Fenced { group: String, detail: String },
    /// The partition does not exist. The caller's fault.
    #[error("topic `{topic}` has {partitions} partitions, there is no partition {partition}")]
    NoSuchPartition { topic: Topic, partition: u32, partitions: u32 },
    /// What is stored cannot be read back.
    #[error("the record at {position} is damaged: {detail}")]
    Damaged { position: Position, detail: String },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// `true` when the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, LogError::Unavailable(_))
    }
}
