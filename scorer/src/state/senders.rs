//! Outgoing users and identities of one partition: when they were seen, what became of their mail, their locks.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use schemas::limits::{Counters, Distinct};
use schemas::senders::{BlockedMessage, Lock, LockChange, SenderRow};
use schemas::settings::LockPolicy;
use schemas::verdict::{BY_POLICY, Identity, MessageSummary};
use schemas::{Domain, Timestamp, UserId};

use super::Histories;
use crate::locks;

mod counting;

pub use counting::Failures;

/// Identities of one user that have a row. With more, further ones count for their user only until idle ones leave: a
/// client that makes up identities must not fill the memory. Locks always find room.
pub const MAX_IDENTITIES_PER_USER: usize = 10_000;
/// The same for all users of a partition together.
pub const MAX_IDENTITIES: usize = 250_000;
/// A row that was not seen for this long and holds no lock leaves.
const IDLE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_LOCK_HISTORY: usize = 20;

type Key = (UserId, Option<Identity>);

#[derive(Debug, Default)]
pub struct Senders {
    users: HashMap<UserId, UserRows>,
    /// Number of identities of all users.
    identities: usize,
    /// Rows that changed since they were last written.
    dirty: Vec<Key>,
    /// Users whose different recipients changed since they were last written.
    dirty_recipients: BTreeSet<UserId>,
    /// Locks that end by themselves, by when.
    timed: BTreeSet<(Timestamp, Key)>,
    /// How they behave.
    pub histories: Histories,
}

#[derive(Debug, Default)]
struct UserRows {
    user: Option<Kept>,
    /// The different recipients, where a limit asks for them.
    recipients: Option<Distinct>,
    identities: HashMap<Identity, Kept>,
}

#[derive(Debug)]
struct Kept {
    row: SenderRow,
    dirty: bool,
}

/// A lock that was set just now.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLock {
    /// Absent: the whole user is locked.
    pub identity: Option<Identity>,
    pub lock: Lock,
    pub evidence: Vec<BlockedMessage>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Released,
    Quarantined,
    Held,
}

/// A lock that holds, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldLock<'a> {
    pub lock: &'a Lock,
    /// Of the whole user, not of the identity alone.
    pub of_user: bool,
}

impl Senders {
    /// Takes a row, as it is read from the topic.
    pub fn put(&mut self, row: SenderRow) {
        let key = (row.user.clone(), row.identity.clone());
        self.forget_timer(&key);
        if let Some(until) = row.lock.as_ref().and_then(|lock| lock.until) {
            self.timed.insert((until, key));
        }
        let rows = self.users.entry(row.user.clone()).or_default();
        let kept = Kept { row, dirty: false };
        match kept.row.identity.clone() {
            None => rows.user = Some(kept),
            Some(identity) => {
                let replaced = rows.identities.insert(identity, kept);
                self.identities += usize::from(replaced.is_none());
            }
        }
    }

    /// Takes the different recipients of a user, as they are read from the topic; none removes them.
    pub fn put_recipients(&mut self, user: &UserId, recipients: Option<Distinct>) {
        if recipients.is_some() || self.users.contains_key(user) {
            self.users.entry(user.clone()).or_default().recipients = recipients;
        }
    }

    /// Removes a row; with that of the user itself what is known of its recipients. `true` when there was such.
    pub fn remove(&mut self, user: &UserId, identity: Option<&Identity>) -> bool {
        self.forget_timer(&(user.clone(), identity.cloned()));
        let Some(rows) = self.users.get_mut(user) else { return false };
        let mut had_recipients = false;
        match identity {
            None => {
                rows.user = None;
                had_recipients = rows.recipients.take().is_some();
            }
            Some(identity) => self.identities -= usize::from(rows.identities.remove(identity).is_some()),
        }
        if rows.user.is_none() && rows.identities.is_empty() && rows.recipients.is_none() {
            self.users.remove(user);
        }
        had_recipients
    }

    #[must_use]
    pub fn get(&self, user: &UserId, identity: Option<&Identity>) -> Option<&SenderRow> {
        let rows = self.users.get(user)?;
        let kept = match identity {
            None => rows.user.as_ref(),
            Some(identity) => rows.identities.get(identity),
        };
        kept.map(|kept| &kept.row)
    }

    /// The lock that holds for a message at `now`: of its user, else of its identity. The null reverse-path as identity
    /// is never locked.
    #[must_use]
    pub fn lock(&self, user: &UserId, identity: &Identity, now: Timestamp) -> Option<HeldLock<'_>> {
        let held = |row: Option<&'_ SenderRow>| {
            row.is_some_and(|r| r.lock.as_ref().is_some_and(|l| l.holds_at(now)))
        };
        let of = |identity, of_user| {
            let row = self.get(user, identity);
            if !held(row) {
                return None;
            }
            row.and_then(|row| row.lock.as_ref()).map(|lock| HeldLock { lock, of_user })
        };
        of(None, true).or_else(|| if identity.0 == "<>" { None } else { of(Some(identity), false) })
    }

    /// Counts a message that was judged. `source`: where its identity was found; absent when it was counted as held before.
    pub fn count(&mut self, message: &MessageSummary, source: Option<&str>, fate: Fate) {
        self.count_in_row(message, None, source, fate);
        let known = self.get(&message.user, Some(&message.identity)).is_some();
        if known || self.has_room(&message.user) {
            self.count_in_row(message, Some(&message.identity), source, fate);
        }
    }

    /// Notes how many messages of a user wait.
    pub fn set_held(&mut self, message: &MessageSummary, held: usize, at: Timestamp) {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.change(&message.user, &message.domain, None, at, |row| row.held = held);
    }

    pub(super) fn has_room(&self, user: &UserId) -> bool {
        let of_user = self.users.get(user).map_or(0, |rows| rows.identities.len());
        of_user < MAX_IDENTITIES_PER_USER && self.identities < MAX_IDENTITIES
    }

    fn count_in_row(
        &mut self,
        message: &MessageSummary,
        identity: Option<&Identity>,
        source: Option<&str>,
        fate: Fate,
    ) {
        let at = message.accepted_at;
        self.change(&message.user, &message.domain, identity, at, |row| {
            if let Some(source) = source
                && identity.is_some()
                && row.identity_source != source
            {
                source.clone_into(&mut row.identity_source);
            }
            row.first_seen = row.first_seen.min(at);
            row.last_seen = row.last_seen.max(at);
            match fate {
                Fate::Released => row.released += 1,
                Fate::Quarantined => row.quarantined += 1,
                Fate::Held => {}
            }
        });
    }

    /// Takes down a message that was blocked as abuse, and locks its identity or its user where that leads to a lock by the
    /// policy. Gives the locks that were set: whose, and what.
    pub fn note_block(
        &mut self,
        message: &MessageSummary,
        why: &str,
        policy: &LockPolicy,
        now: Timestamp,
    ) -> Vec<NewLock> {
        let identity = (policy.identity && message.identity.0 != "<>").then_some(&message.identity);
        let of_identity =
            identity.map(|identity| self.note_block_of(message, Some(identity), why, policy, now));
        let of_user = policy.user.then(|| self.note_block_of(message, None, why, policy, now));
        of_identity.into_iter().chain(of_user).flatten().collect()
    }

    fn note_block_of(
        &mut self,
        message: &MessageSummary,
        identity: Option<&Identity>,
        why: &str,
        policy: &LockPolicy,
        now: Timestamp,
    ) -> Option<NewLock> {
        let (user, domain) = (&message.user, &message.domain);
        if self.get(user, identity).is_none() && !self.has_room(user) {
            return None;
        }
        let mut lock = None;
        self.change(user, domain, identity, message.accepted_at, |row| {
            locks::note_block(row, message, why, policy);
            lock = locks::due(row, message, policy, now).map(|lock| (lock, row.blocked.clone()));
        });
        let (lock, evidence) = lock?;
        self.set_lock(user, domain, identity, lock.clone());
        Some(NewLock { identity: identity.cloned(), lock, evidence })
    }

    /// Locks a user or one of its identities.
    pub fn set_lock(&mut self, user: &UserId, domain: &Domain, identity: Option<&Identity>, lock: Lock) {
        let key = (user.clone(), identity.cloned());
        self.forget_timer(&key);
        if let Some(until) = lock.until {
            self.timed.insert((until, key));
        }
        self.change(user, domain, identity, lock.since, |row| {
            row.automatic_unlocks = locks::unlocks_that_count(row, lock.since);
            remember(
                row,
                LockChange { at: lock.since, locked: true, by: lock.by.clone(), reason: lock.reason.clone() },
            );
            row.lock = Some(lock);
            forget_blocks(row);
        });
    }

    /// Takes a lock away whose time is over; `false` when there is none.
    pub fn end_lock(&mut self, user: &UserId, identity: Option<&Identity>, change: LockChange) -> bool {
        let Some(row) = self.get(user, identity) else { return false };
        let (at, domain) = (change.at, row.domain.clone());
        let is_automatic = row.lock.as_ref().is_some_and(|lock| lock.by == BY_POLICY);
        let ended = row.automatic_unlocks.saturating_add(u32::from(is_automatic));
        if !self.unlock(user, identity, change) {
            return false;
        }
        self.change(user, &domain, identity, at, |row| row.automatic_unlocks = ended);
        true
    }

    /// Takes a lock away and begins anew with what led to it; `false` when there is none.
    pub fn unlock(&mut self, user: &UserId, identity: Option<&Identity>, change: LockChange) -> bool {
        let Some(row) = self.get(user, identity) else { return false };
        if row.lock.is_none() {
            return false;
        }
        let domain = row.domain.clone();
        self.forget_timer(&(user.clone(), identity.cloned()));
        self.change(user, &domain, identity, change.at, |row| {
            row.lock = None;
            forget_blocks(row);
            row.automatic_unlocks = 0;
            remember(row, change);
        });
        true
    }

    /// Locks whose time is over at `now`.
    #[must_use]
    pub fn expired_locks(&self, now: Timestamp) -> Vec<(UserId, Option<Identity>)> {
        self.timed.iter().take_while(|(until, _)| *until <= now).map(|(_, key)| key.clone()).collect()
    }

    /// Up to `max` rows that were not seen for 30 days and hold no lock.
    #[must_use]
    pub fn idle(&self, now: Timestamp, max: usize) -> Vec<(UserId, Option<Identity>)> {
        let limit = now.minus(IDLE);
        self.rows()
            .filter(|row| row.last_seen < limit && row.lock.is_none() && row.held == 0)
            .take(max)
            .map(|row| (row.user.clone(), row.identity.clone()))
            .collect()
    }

    pub fn rows(&self) -> impl Iterator<Item = &SenderRow> {
        self.users
            .values()
            .flat_map(|rows| rows.user.iter().chain(rows.identities.values()))
            .map(|kept| &kept.row)
    }

    /// The rows that changed since the last call, each once.
    pub fn take_dirty(&mut self) -> Vec<&SenderRow> {
        let dirty = std::mem::take(&mut self.dirty);
        for (user, identity) in &dirty {
            let Some(rows) = self.users.get_mut(user) else { continue };
            let kept = match identity {
                None => rows.user.as_mut(),
                Some(identity) => rows.identities.get_mut(identity),
            };
            if let Some(kept) = kept {
                kept.dirty = false;
            }
        }
        dirty.iter().filter_map(|(user, identity)| self.get(user, identity.as_ref())).collect()
    }

    fn change(
        &mut self,
        user: &UserId,
        domain: &Domain,
        identity: Option<&Identity>,
        at: Timestamp,
        change: impl FnOnce(&mut SenderRow),
    ) {
        if !self.users.contains_key(user) {
            self.users.insert(user.clone(), UserRows::default());
        }
        // It was put there just now.
        let Some(rows) = self.users.get_mut(user) else { return };
        let kept = match identity {
            None => {
                rows.user.get_or_insert_with(|| Kept { row: new_row(user, domain, None, at), dirty: false })
            }
            Some(identity) => {
                if !rows.identities.contains_key(identity) {
                    let row = new_row(user, domain, Some(identity), at);
                    rows.identities.insert(identity.clone(), Kept { row, dirty: false });
                    self.identities += 1;
                }
                let Some(kept) = rows.identities.get_mut(identity) else { return };
                kept
            }
        };
        change(&mut kept.row);
        if !kept.dirty {
            kept.dirty = true;
            self.dirty.push((user.clone(), identity.cloned()));
        }
    }

    fn forget_timer(&mut self, key: &Key) {
        if self.timed.is_empty() {
            return;
        }
        let until =
            self.get(&key.0, key.1.as_ref()).and_then(|row| row.lock.as_ref()).and_then(|lock| lock.until);
        if let Some(until) = until {
            self.timed.remove(&(until, key.clone()));
        }
    }
}

/// The row of somebody who is seen for the first time.
pub fn new_row(user: &UserId, domain: &Domain, identity: Option<&Identity>, at: Timestamp) -> SenderRow {
    SenderRow {
        user: user.clone(),
        domain: domain.clone(),
        identity: identity.cloned(),
        identity_source: String::new(),
        first_seen: at,
        last_seen: at,
        released: 0,
        quarantined: 0,
        lock: None,
        counters: Counters::default(),
        outcomes: schemas::outcomes::Outcomes::default(),
        held: 0,
        blocked_at: Vec::new(),
        blocked: Vec::new(),
        automatic_unlocks: 0,
        lock_history: Vec::new(),
    }
}

fn forget_blocks(row: &mut SenderRow) {
    row.blocked_at.clear();
    row.blocked.clear();
}

fn remember(row: &mut SenderRow, change: LockChange) {
    row.lock_history.push(change);
    let surplus = row.lock_history.len().saturating_sub(MAX_LOCK_HISTORY);
    row.lock_history.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::NOW;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn user() -> UserId {
        UserId("shop.example".into())
    }

    fn domain() -> Domain {
        Domain::parse("shop.example").unwrap()
    }

    fn identity(name: &str) -> Identity {
        Identity(name.into())
    }

    fn lock(until: Option<Timestamp>) -> Lock {
        Lock { since: NOW, until, by: "root".into(), reason: "test".into() }
    }

    #[test]
    fn locks_hold_until_their_time() {
        let mut senders = Senders::default();
        senders.set_lock(&user(), &domain(), Some(&identity("bob")), lock(Some(NOW.plus(DAY))));
        assert!(senders.lock(&user(), &identity("bob"), NOW).is_some_and(|l| !l.of_user));
        assert!(senders.lock(&user(), &identity("eve"), NOW).is_none());
        assert!(senders.lock(&user(), &identity("bob"), NOW.plus(DAY)).is_none());
        assert!(senders.expired_locks(NOW).is_empty());
        assert_eq!(senders.expired_locks(NOW.plus(DAY)), [(user(), Some(identity("bob")))]);

        senders.set_lock(&user(), &domain(), None, lock(None));
        assert!(senders.lock(&user(), &identity("eve"), NOW).is_some_and(|l| l.of_user));
        let change = LockChange { at: NOW, locked: false, by: "root".into(), reason: String::new() };
        assert!(senders.unlock(&user(), None, change.clone()) && !senders.unlock(&user(), None, change));
        assert!(senders.lock(&user(), &identity("eve"), NOW).is_none());
    }

    #[test]
    fn a_later_lock_replaces_the_timer_of_the_first() {
        let mut senders = Senders::default();
        senders.set_lock(&user(), &domain(), None, lock(Some(NOW.plus(DAY))));
        senders.set_lock(&user(), &domain(), None, lock(None));
        assert!(senders.expired_locks(NOW.plus(3 * DAY)).is_empty());
        for _ in 0..30 {
            senders.set_lock(&user(), &domain(), None, lock(None));
        }
        assert_eq!(senders.get(&user(), None).unwrap().lock_history.len(), MAX_LOCK_HISTORY);
    }

    #[test]
    fn locks_of_a_week_count_and_a_week_without_forgives() {
        let (mut senders, week) = (Senders::default(), 7 * DAY);
        let end = |at| LockChange { at, locked: false, by: BY_POLICY.into(), reason: String::new() };
        let mut round = |since: Timestamp| {
            let until = since.plus(week);
            let lock = Lock { since, by: BY_POLICY.into(), ..lock(Some(until)) };
            senders.set_lock(&user(), &domain(), None, lock);
            assert!(senders.end_lock(&user(), None, end(until)));
            (until, senders.get(&user(), None).unwrap().automatic_unlocks)
        };
        let mut at = NOW;
        for expected in 1..=3 {
            let (until, unlocks) = round(at);
            assert_eq!(unlocks, expected);
            at = until.plus(DAY);
        }
        assert_eq!(round(at.plus(week)).1, 1, "a week without a lock is enough");
    }

    #[test]
    fn identities_are_bounded_but_locks_find_room() {
        let mut senders = Senders::default();
        let judgement =
            crate::score_file::score_message(b"From: a@b.example\r\n\r\n", crate::samples::classifier(), NOW);
        let mut message = judgement.verdict.message;
        for number in 0..=MAX_IDENTITIES_PER_USER {
            message.identity = identity(&number.to_string());
            senders.count(&message, Some("header"), Fate::Released);
        }
        assert!(senders.get(&message.user, Some(&message.identity)).is_none());
        assert_eq!(senders.get(&message.user, None).unwrap().released, MAX_IDENTITIES_PER_USER as u64 + 1);
        senders.set_lock(&message.user, &domain(), Some(&message.identity), lock(None));
        assert!(senders.lock(&message.user, &message.identity, NOW).is_some());
        assert_eq!(senders.idle(NOW.plus(31 * DAY), usize::MAX).len(), MAX_IDENTITIES_PER_USER + 1);
    }

    #[test]
    fn rows_are_dirty_once_and_come_back_as_they_were() {
        let mut senders = Senders::default();
        senders.set_lock(&user(), &domain(), Some(&identity("bob")), lock(None));
        senders.set_lock(&user(), &domain(), Some(&identity("bob")), lock(Some(NOW.plus(DAY))));
        let written: Vec<SenderRow> = senders.take_dirty().into_iter().cloned().collect();
        assert_eq!(written.len(), 1);
        assert!(senders.take_dirty().is_empty());
        let mut again = Senders::default();
        again.put(written[0].clone());
        assert_eq!(again.expired_locks(NOW.plus(DAY)).len(), 1);
        assert_eq!(again.idle(NOW.plus(90 * DAY), 10), [], "a lock keeps its row");
        again.remove(&user(), Some(&identity("bob")));
        assert!(again.rows().next().is_none() && again.expired_locks(NOW.plus(DAY)).is_empty());
    }
}
