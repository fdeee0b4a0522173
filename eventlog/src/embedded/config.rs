//! Settings of the embedded engine.

use std::path::PathBuf;
use std::time::Duration;

use schemas::Topic;

/// Settings of the embedded engine; the partition count is fixed when the directory is made.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    pub directory: PathBuf,
    /// Partitions of every topic that has not exactly one.
    pub partitions: u32,
    /// Below this many free bytes on the directory's file system `accepting` says no; workers may still write.
    pub min_free_bytes: u64,
    /// Bytes of records that may wait for the writer; further appends wait for room.
    pub max_waiting_bytes: usize,
    /// How often retention is looked at.
    pub retention_interval: Duration,
}

impl EmbeddedConfig {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        EmbeddedConfig {
            directory: directory.into(),
            partitions: 4,
            min_free_bytes: 1 << 30,
            max_waiting_bytes: 64 << 20,
            retention_interval: Duration::from_secs(60),
        }
    }

    pub(super) fn partitions_of(&self, topic: Topic) -> u32 {
        if topic.single_partition() { 1 } else { self.partitions }
    }
}
