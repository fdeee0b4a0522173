//! What the owner of a partition knows: the senders and the quarantine of its users. Folded from `senders` and
//! `quarantine` when the partition is assigned, kept current by what is committed, dropped when it is revoked.

mod histories;
mod holds;
mod quarantined;
mod senders;

pub use histories::Histories;
pub use holds::Holds;
pub use quarantined::{Entry, Quarantined};
pub use senders::{Failures, Fate, HeldLock, MAX_IDENTITIES_PER_USER, NewLock, Senders, new_row};

use schemas::quarantine::QuarantineRow;

/// The state of one partition number, the same in every topic that is partitioned by user.
#[derive(Debug, Default)]
pub struct PartitionState {
    pub senders: Senders,
    pub quarantined: Quarantined,
    pub holds: Holds,
    /// Rows whose message stands in `quarantined` since the last commit, so that their position is known only now: the
    /// next commit writes them.
    pub unplaced: Vec<QuarantineRow>,
    /// Up to where `attempts` was read without anything to be written: the next commit says so.
    pub attempts_read: Option<u64>,
}
