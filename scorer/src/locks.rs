//! When a sender is locked by itself: messages blocked as abuse, counted over a window that slides on the time they were
//! accepted.

use std::time::Duration;

use schemas::Timestamp;
use schemas::senders::{BlockedMessage, Lock, SenderRow};
use schemas::settings::LockPolicy;
use schemas::verdict::{BY_POLICY, MessageSummary};

use crate::evidence::clean_marked;

/// After this long without a lock, the ones that ended by themselves are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Blocked messages shown with a lock.
const MAX_EVIDENCE: usize = 5;
const MAX_SUBJECT_BYTES: usize = 120;
const MAX_WHY_BYTES: usize = 200;

/// Takes down a message that was blocked as abuse. The times that the policy can still ask for stay.
/// `why`: its strongest symbols.
pub fn note_block(row: &mut SenderRow, message: &MessageSummary, why: &str, policy: &LockPolicy) {
    let accepted_at = message.accepted_at;
    row.blocked.push(BlockedMessage {
        id: message.id,
        at: accepted_at,
        classification: message.classification,
        subject: clean_marked(message.subject.as_deref().unwrap_or_default(), MAX_SUBJECT_BYTES),
        why: clean_marked(why, MAX_WHY_BYTES),
    });
    let surplus = row.blocked.len().saturating_sub(MAX_EVIDENCE);
    row.blocked.drain(..surplus);
    let at = row.blocked_at.partition_point(|earlier| *earlier <= accepted_at);
    row.blocked_at.insert(at, accepted_at);
    let surplus = row.blocked_at.len().saturating_sub(policy.blocked_messages as usize);
    row.blocked_at.drain(..surplus);
}

/// The lock that the blocks taken down so far lead to, if they do.
#[must_use]
pub fn due(row: &SenderRow, message: &MessageSummary, policy: &LockPolicy, now: Timestamp) -> Option<Lock> {
    let (first, last) = (row.blocked_at.first()?, row.blocked_at.last()?);
    let enough = row.blocked_at.len() >= policy.blocked_messages as usize;
    if !enough
        || last.since(*first) > policy.within
        || row.lock.as_ref().is_some_and(|lock| lock.holds_at(now))
    {
        return None;
    }
    let unlocks = unlocks_that_count(row, now);
    let is_last = unlocks >= policy.max_unlocks;
    let mut reason = format!(
        "{} messages blocked within {} minutes, the last as {}, ref {}",
        row.blocked_at.len(),
        policy.within.as_secs() / 60,
        message.classification,
        message.id
    );
    if is_last {
        reason.push_str(&format!(
            "; locks have ended by themselves {unlocks} times, this one is for a person to end"
        ));
    }
    Some(Lock {
        since: now,
        until: (!is_last).then(|| now.plus(policy.timeout)),
        by: BY_POLICY.into(),
        reason,
    })
}

/// Locks that ended by themselves and are not forgotten when a lock is set at `now`.
#[must_use]
pub fn unlocks_that_count(row: &SenderRow, now: Timestamp) -> u32 {
    let last = row.lock_history.iter().rfind(|change| !change.locked).map(|change| change.at);
    if last.is_some_and(|last| now.since(last) < FORGIVEN_AFTER) { row.automatic_unlocks } else { 0 }
}

#[cfg(test)]
mod tests {
    use schemas::senders::LockChange;

    use super::*;
    use crate::samples::NOW;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy() -> LockPolicy {
        LockPolicy {
            identity: true,
            user: false,
            blocked_messages: 5,
            within: MINUTE * 10,
            timeout: MINUTE * 60,
            max_unlocks: 2,
            notice: true,
        }
    }

    fn message() -> MessageSummary {
        crate::score_file::score_message(b"From: a@b.example\r\n\r\n", crate::samples::classifier(), NOW)
            .verdict
            .message
    }

    fn row() -> SenderRow {
        crate::state::new_row(&message().user, &message().domain, None, NOW)
    }

    fn blocked(minutes: &[u32]) -> SenderRow {
        let mut row = row();
        for minute in minutes {
            let message = MessageSummary { accepted_at: NOW.plus(MINUTE * *minute), ..message() };
            note_block(&mut row, &message, "CONTENT 0.99", &policy());
        }
        assert_eq!(row.blocked.len(), minutes.len().min(MAX_EVIDENCE));
        row
    }

    #[test]
    fn enough_blocks_in_the_window_lock_for_the_timeout() {
        for (minutes, locks) in [
            (&[0, 1, 2, 3][..], false),
            (&[0, 1, 2, 3, 4], true),
            (&[0, 1, 2, 3, 10], true),
            (&[0, 1, 2, 3, 11], false),
            (&[0, 20, 21, 22, 23, 24], true),
            (&[24, 23, 22, 21, 20], true),
        ] {
            let lock = due(&blocked(minutes), &message(), &policy(), NOW.plus(MINUTE * 30));
            assert_eq!(lock.is_some(), locks, "{minutes:?}");
            assert!(
                lock.is_none_or(|lock| lock.until == Some(NOW.plus(MINUTE * 90)) && lock.by == BY_POLICY)
            );
        }
    }

    #[test]
    fn after_some_automatic_unlocks_only_a_person_unlocks_and_time_forgives() {
        let mut row = blocked(&[0, 1, 2, 3, 4]);
        row.automatic_unlocks = 2;
        row.lock_history.push(LockChange {
            at: NOW,
            locked: false,
            by: BY_POLICY.into(),
            reason: String::new(),
        });
        let lock = due(&row, &message(), &policy(), NOW.plus(MINUTE * 5)).unwrap();
        assert!(lock.until.is_none() && lock.reason.contains("for a person"), "{lock:?}");
        let weeks_later = NOW.plus(FORGIVEN_AFTER);
        assert!(due(&row, &message(), &policy(), weeks_later).unwrap().until.is_some());
    }

    #[test]
    fn a_lock_that_holds_is_not_set_again() {
        let mut row = blocked(&[0, 1, 2, 3, 4]);
        row.lock = due(&row, &message(), &policy(), NOW.plus(MINUTE * 5));
        assert!(row.lock.is_some() && due(&row, &message(), &policy(), NOW.plus(MINUTE * 6)).is_none());
    }
}
