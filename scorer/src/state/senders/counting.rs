//! What is counted of a user's mail: against its limits, and for what becomes of its recipients.

use std::collections::BTreeMap;

use schemas::limits::{self, Asked, Counters, Distinct, Over};
use schemas::outcomes::{Numbers, Outcomes};
use schemas::settings::Limits;
use schemas::verdict::{Identity, MessageSummary};
use schemas::{Domain, Timestamp, UserId};

use super::{Senders, forget_blocks};

/// Recipients of one message whom nothing can be delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    pub user: UserId,
    pub domain: Domain,
    pub identity: Identity,
    /// When their receiver said so.
    pub at: Timestamp,
    pub numbers: Numbers,
}

impl Senders {
    /// Counts a message that is released against the limits of its user, and its recipients for what becomes of them.
    pub fn count_sent(&mut self, message: &MessageSummary, asked: &Asked, limits: &Limits, at: Timestamp) {
        let sent = if asked.forwarded { 0 } else { asked.recipients };
        let sent = Numbers { sent, ..Numbers::default() };
        self.change(&message.user, &message.domain, None, at, |row| {
            row.counters.count(at, asked, limits);
            row.outcomes.add(at, sent);
        });
        if self.get(&message.user, Some(&message.identity)).is_some() || self.has_room(&message.user) {
            let identity = Some(&message.identity);
            self.change(&message.user, &message.domain, identity, at, |row| row.outcomes.add(at, sent));
        }
        self.count_recipients(&message.user, asked, limits, at);
    }

    fn count_recipients(&mut self, user: &UserId, asked: &Asked, limits: &Limits, at: Timestamp) {
        // `change` has made an entry for the user.
        let Some(rows) = self.users.get_mut(user) else { return };
        if limits.distinct_recipients_per_day.is_some() {
            rows.recipients.get_or_insert_default().add(at, &asked.hashes);
        } else if rows.recipients.take().is_none() {
            return;
        }
        self.dirty_recipients.insert(user.clone());
    }

    /// Counts recipients whom nothing can be delivered to, as it is said at `at`.
    pub fn count_failures(&mut self, failures: &Failures, limits: &Limits) {
        let Failures { user, domain, identity, at, numbers } = failures;
        self.change(user, domain, None, *at, |row| {
            row.counters.count_invalid(*at, numbers.invalid, limits);
            row.outcomes.add(*at, *numbers);
        });
        // An identity that is known no more has nothing to be judged by.
        if self.get(user, Some(identity)).is_some() {
            self.change(user, domain, Some(identity), *at, |row| row.outcomes.add(*at, *numbers));
        }
    }

    /// Begins anew with what counts against a user or one of its identities; a lock stays. `false` when there is no row.
    pub fn reset(&mut self, user: &UserId, identity: Option<&Identity>, at: Timestamp) -> bool {
        let Some(domain) = self.get(user, identity).map(|row| row.domain.clone()) else { return false };
        self.change(user, &domain, identity, at, |row| {
            row.counters = Counters::default();
            row.outcomes = Outcomes::default();
            forget_blocks(row);
            row.automatic_unlocks = 0;
        });
        let rows = self.users.get_mut(user).filter(|_| identity.is_none());
        if rows.is_some_and(|rows| rows.recipients.take().is_some()) {
            self.dirty_recipients.insert(user.clone());
        }
        true
    }

    /// The limit that a message of this user is over.
    #[must_use]
    pub fn over_limit(&self, user: &UserId, asked: &Asked, limits: &Limits, at: Timestamp) -> Option<Over> {
        let (counters, distinct) = self.counted(user);
        limits::over(counters?, distinct.unwrap_or(&Distinct::default()), at, asked, limits)
    }

    /// What counts against each limit of a user, and the limit.
    #[must_use]
    pub fn standing(&self, user: &UserId, limits: &Limits, at: Timestamp) -> BTreeMap<String, (u64, u64)> {
        let (counters, distinct) = self.counted(user);
        let (no_counters, no_distinct) = (Counters::default(), Distinct::default());
        limits::standing(counters.unwrap_or(&no_counters), distinct.unwrap_or(&no_distinct), at, limits)
    }

    /// What counts against the limits of a user.
    #[must_use]
    pub fn counted(&self, user: &UserId) -> (Option<&Counters>, Option<&Distinct>) {
        let Some(rows) = self.users.get(user) else { return (None, None) };
        (rows.user.as_ref().map(|kept| &kept.row.counters), rows.recipients.as_ref())
    }

    /// Users whose different recipients changed since the last call, with what is to be kept of them.
    pub fn take_dirty_recipients(&mut self) -> Vec<(UserId, Option<&Distinct>)> {
        let dirty = std::mem::take(&mut self.dirty_recipients);
        let kept = |user: &UserId| self.users.get(user).and_then(|rows| rows.recipients.as_ref());
        dirty.into_iter().map(|user| (user.clone(), kept(&user))).collect()
    }
}
