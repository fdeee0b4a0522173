//! What time brings: locks that end, holds that are let go, rows that leave. Committed with the current offsets, so that a member that lost its
//! partitions cannot write.

use std::time::Duration;

use eventlog::{Consumer, LogError};
use schemas::Timestamp;
use schemas::senders::LockChange;
use schemas::verdict::{BY_POLICY, VerdictEvent};

use crate::batch::Batch;
use crate::outputs;
use crate::run::Member;
use crate::state::PartitionState;

const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Rows that leave in one commit.
const MAX_LEAVING: usize = 1000;

impl Member {
    /// Commits what is due, if anything is. While records keep coming, rows that wait to be placed go with them;
    /// `idle` says that none came.
    ///
    /// # Errors
    /// What the commit says.
    pub async fn pass_time(&mut self, consumer: &mut dyn Consumer, idle: bool) -> Result<(), LogError> {
        let now = self.clock.now();
        let sweep = now >= self.next_sweep;
        let mut due = Batch::default();
        let mut more = false;
        for state in self.partitions.values_mut() {
            end_locks(state, now, &mut due);
            if sweep {
                more |= leave(state, now, &mut due);
            }
        }
        if sweep && !self.partitions.is_empty() && !more {
            self.next_sweep = now.plus(SWEEP_EVERY);
        }
        self.let_go(&mut due, now).await?;
        if !due.outputs.is_empty() || (idle && self.has_something_to_say()) {
            let mut batch = self.begin_batch();
            for output in due.outputs {
                batch.push(output);
            }
            self.commit(consumer, batch).await?;
        }
        if sweep { self.renew_holds(consumer, now).await } else { Ok(()) }
    }
}

fn end_locks(state: &mut PartitionState, now: Timestamp, due: &mut Batch) {
    for (user, identity) in state.senders.expired_locks(now) {
        let change =
            LockChange { at: now, locked: false, by: BY_POLICY.into(), reason: "its time is over".into() };
        let Some(domain) = state.senders.get(&user, identity.as_ref()).map(|row| row.domain.clone()) else {
            continue;
        };
        if state.senders.end_lock(&user, identity.as_ref(), change.clone()) {
            let event = VerdictEvent::Lock {
                user: user.clone(),
                domain,
                identity,
                locked: false,
                by: change.by,
                at: now,
                reason: change.reason,
                evidence: Vec::new(),
            };
            due.push(outputs::event(&user, None, &event));
        }
    }
}

/// `true` when there are more than leave at once.
fn leave(state: &mut PartitionState, now: Timestamp, due: &mut Batch) -> bool {
    let idle = state.senders.idle(now, MAX_LEAVING);
    for (user, identity) in &idle {
        if state.senders.remove(user, identity.as_ref()) {
            due.push(outputs::recipients(user, None));
        }
        due.push(outputs::sender_tombstone(user, identity.as_ref()));
        for part in state.senders.histories.leave(user, identity.as_ref()) {
            due.push(outputs::history_tombstone(user, &part));
        }
    }
    let expired = state.quarantined.expired(now, MAX_LEAVING);
    for (user, id) in &expired {
        state.quarantined.remove(*id);
        due.push(outputs::row_tombstone(user, *id));
    }
    idle.len() == MAX_LEAVING || expired.len() == MAX_LEAVING
}
