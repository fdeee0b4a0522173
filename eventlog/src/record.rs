//! Records, as they are given to the log and as they come back.

use bytes::Bytes;
use schemas::topics::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use schemas::{Position, Timestamp, Topic};

use crate::LogError;

/// How the partition of a new record is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of this key, which need not be the record's.
    By(Bytes),
    /// This partition.
    Partition(u32),
}

/// A record to be written.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub topic: Topic,
    pub partitioning: Partitioning,
    pub key: Bytes,
    /// Absent: a tombstone, which removes the key from a compacted topic.
    pub value: Option<Bytes>,
}

impl NewRecord {
    pub fn new(
        topic: Topic,
        partition_by: impl Into<Bytes>,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Self {
        NewRecord {
            topic,
            partitioning: Partitioning::By(partition_by.into()),
            key: key.into(),
            value: Some(value.into()),
        }
    }

    pub fn tombstone(topic: Topic, partition_by: impl Into<Bytes>, key: impl Into<Bytes>) -> Self {
        NewRecord { topic, partitioning: Partitioning::By(partition_by.into()), key: key.into(), value: None }
    }

    /// The same record in a partition named by number.
    #[must_use]
    pub fn in_partition(mut self, partition: u32) -> Self {
        self.partitioning = Partitioning::Partition(partition);
        self
    }

    /// Both engines refuse the same records, before anything is written.
    ///
    /// # Errors
    /// `TooLarge` when key or value is over its maximum.
    pub fn check_size(&self) -> Result<(), LogError> {
        let value_len = self.value.as_ref().map_or(0, Bytes::len);
        if value_len > MAX_VALUE_BYTES {
            return Err(LogError::TooLarge {
                topic: self.topic,
                what: "value",
                size: value_len,
                max: MAX_VALUE_BYTES,
            });
        }
        if self.key.len() > MAX_KEY_BYTES {
            return Err(LogError::TooLarge {
                topic: self.topic,
                what: "key",
                size: self.key.len(),
                max: MAX_KEY_BYTES,
            });
        }
        Ok(())
    }
}

/// A record that was written.
#[derive(Clone, Debug)]
pub struct Record {
    pub position: Position,
    pub key: Bytes,
    /// Absent: a tombstone.
    pub value: Option<Bytes>,
    pub appended_at: Timestamp,
}
