//! What can be tuned about the embedded engine.

use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// How the embedded engine is set up. `new` gives what production uses; tests turn single values.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The directory of the log; made when it is not there. One process at a time owns it.
    pub directory: PathBuf,
    /// Partitions of every topic that has more than one; counts only when the log is created.
    pub partitions: u32,
    /// Free disk space below which `accepting` says no, in bytes.
    pub min_free_bytes: u64,
    /// Appends that wait for the writer, all together, in bytes; an append beyond it waits. Each record counts 1 KiB
    /// more than its value, so that this bounds the number of records, too.
    pub max_waiting_bytes: u64,
    /// How long a commit waits for an append to share its fsync.
    pub commit_linger: Duration,
    /// Recently appended records kept in memory for readers, per partition, in bytes.
    pub recent_bytes: usize,
    /// Size of a memtable at which it is written out, in bytes, for topics that carry whole messages.
    pub memtable_bytes: u64,
    /// The same for every other topic.
    pub small_memtable_bytes: u64,
    /// Size of all journals at which idle memtables are written out, too, in bytes (64 MiB at least). Bounds how long
    /// opening takes after a crash.
    pub journal_bytes: u64,
    /// Blocks kept in memory for reads that miss the recent records, in bytes.
    pub cache_bytes: u64,
    /// Size of fjall's own tree of keyspaces at which the database is closed and opened again, in bytes: only that lets go
    /// of what earlier epochs left there.
    pub catalogue_bytes: u64,
    /// Size of an epoch at which the next one begins, in bytes.
    pub epoch_bytes: u64,
    /// How long the tombstone of a compacted topic stays, so that whoever follows the topic with a pause still sees it.
    pub tombstone_delay: Duration,
    /// How often retention is looked at, by the injected clock.
    pub retention_interval: Duration,
    /// How long after opening, and after time during which it could not be looked at, retention is first looked at: a log
    /// that was closed or a machine that stood still for days holds messages that are past their retention and still
    /// queued, and whoever queued them must be able to write them anew before they go.
    pub retention_grace: Duration,
    /// How long a member that must give up partitions may take to poll, before they are taken away.
    pub release_timeout: Duration,
    /// The first pause before a log that failed is opened again; each further one is twice as long, up to 30 s.
    pub reopen_delay: Duration,
}

impl EmbeddedConfig {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        EmbeddedConfig {
            directory: directory.into(),
            partitions: 4,
            min_free_bytes: 1024 * MIB,
            max_waiting_bytes: 64 * MIB,
            commit_linger: Duration::from_millis(2),
            recent_bytes: 2 * MIB as usize,
            memtable_bytes: 8 * MIB,
            small_memtable_bytes: 4 * MIB,
            journal_bytes: 256 * MIB,
            cache_bytes: 16 * MIB,
            catalogue_bytes: 128 * MIB,
            epoch_bytes: 4096 * MIB,
            tombstone_delay: Duration::from_secs(24 * 3600),
            retention_interval: Duration::from_secs(60),
            retention_grace: Duration::from_secs(600),
            release_timeout: Duration::from_secs(10),
            reopen_delay: Duration::from_millis(200),
        }
    }
}
