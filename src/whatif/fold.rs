//! What a what-if finds, added up: totals, and one row a user. A pure fold over verdicts in the order in which they stand.

use std::collections::HashMap;

use schemas::settings::QuarantineResponse;
use schemas::verdict::{Classification, Disposition, Verdict};
use schemas::{Timestamp, UserId};
use scorer::decision::Decision;
use scorer::policy::Policy;
use scorer::recompute;

use super::answer::{ChangeKind, Changes, Example, Suggestion, Totals, UserRow};
use super::replay::Replay;
use super::suggest::History;

/// Rows of users in an answer, at most.
const MAX_USERS: usize = 1000;

/// What is known of a message under the settings that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Decided {
        decision: Decision,
        /// The message itself was judged.
        from_body: bool,
    },
    Unknown,
    NotRead,
    TooOld,
}

/// How much is kept, and from when on.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub since: Timestamp,
    /// Messages named for each user.
    pub examples: usize,
    pub suggest: bool,
}

#[derive(Debug)]
pub struct Fold {
    scope: Scope,
    totals: Totals,
    users: HashMap<UserId, User>,
    rows: Vec<UserRow>,
    /// Rows that are not kept.
    left_out: usize,
    suggestions: Vec<Suggestion>,
}

#[derive(Debug)]
struct User {
    row: UserRow,
    replay: Replay,
    history: History,
    /// As they are tried.
    limits: schemas::settings::Limits,
}

impl Fold {
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Fold {
            scope,
            totals: Totals::default(),
            users: HashMap::new(),
            rows: Vec::new(),
            left_out: 0,
            suggestions: Vec::new(),
        }
    }

    /// A message of a user that the settings tried do not have.
    pub fn take_of_removed(&mut self, verdict: &Verdict) {
        if verdict.message.accepted_at < self.scope.since {
            return;
        }
        self.totals.messages += 1;
        self.totals.of_users_without_settings += 1;
        let user = self.users.entry(verdict.message.user.clone()).or_insert_with(|| User::of(verdict));
        user.row.messages += 1;
        user.row.is_removed = true;
    }

    /// One message; of a time before the period it only fills the windows of limits.
    pub fn take(&mut self, verdict: &Verdict, policy: &Policy, found: Found) {
        let message = &verdict.message;
        let is_counted = message.accepted_at >= self.scope.since;
        let user = self.users.entry(message.user.clone()).or_insert_with(|| User::of(verdict));
        user.limits.clone_from(&policy.limits);
        let decision = match found {
            Found::Decided { decision, .. } => decision,
            _ => recompute::as_it_was(verdict),
        };
        if is_counted {
            self.totals.messages += 1;
            user.row.messages += 1;
            match found {
                Found::Unknown => self.totals.unknown += 1,
                Found::NotRead => self.totals.not_read += 1,
                Found::TooOld => self.totals.too_old += 1,
                Found::Decided { decision, from_body } => {
                    self.totals.recomputed += 1;
                    self.totals.from_bodies += u64::from(from_body);
                    self.totals.changes.add(verdict, decision, policy);
                    if let Some(change) = user.row.changes.add(verdict, decision, policy) {
                        user.row.remember(verdict, decision, change, self.scope.examples);
                    }
                }
            }
        }
        if decision.disposition != Disposition::Release {
            return;
        }
        let recipients = verdict.recipients.len() as u64;
        let over = user.replay.take(verdict, &policy.limits, is_counted, decision.classification);
        if is_counted {
            if over.is_some() {
                user.row.over_limit += 1;
                self.totals.over_limit += 1;
            }
            if self.scope.suggest {
                user.history.take(message.accepted_at, recipients);
            }
        }
    }

    /// A user stands in one partition: with that, all of it was seen, and its windows are no longer needed.
    pub fn end_of_partition(&mut self) {
        for (id, mut user) in self.users.drain() {
            user.row.limits = user.replay.hits();
            if self.scope.suggest && !user.row.is_removed {
                self.suggestions.push(user.history.suggestion(id, user.limits));
            }
            if user.row.changes_something() {
                self.rows.push(user.row);
            }
        }
        let order = |row: &UserRow| {
            let blocked: u64 = row.changes.newly_blocked.values().sum();
            let passed: u64 = row.changes.newly_passed.values().sum();
            std::cmp::Reverse((blocked, passed, row.over_limit, row.messages))
        };
        self.rows.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.user.cmp(&b.user)));
        self.left_out += self.rows.len().saturating_sub(MAX_USERS);
        self.rows.truncate(MAX_USERS);
    }

    /// Totals; rows, most blocked first, and how many were left out; suggestions, who sends most first.
    #[must_use]
    pub fn end(mut self) -> (Totals, Vec<UserRow>, usize, Option<Vec<Suggestion>>) {
        self.end_of_partition();
        self.suggestions.sort_by(|a, b| (b.messages, &a.user).cmp(&(a.messages, &b.user)));
        let suggestions = self.scope.suggest.then_some(self.suggestions);
        (self.totals, self.rows, self.left_out, suggestions)
    }
}

impl User {
    fn of(verdict: &Verdict) -> Self {
        User {
            row: UserRow {
                user: verdict.message.user.clone(),
                messages: 0,
                is_removed: false,
                changes: Changes::default(),
                over_limit: 0,
                limits: Vec::new(),
                examples: Vec::new(),
            },
            replay: Replay::default(),
            history: History::default(),
            limits: schemas::settings::Limits::default(),
        }
    }
}

impl UserRow {
    fn changes_something(&self) -> bool {
        let nothing = Changes { unchanged: self.changes.unchanged, ..Changes::default() };
        self.messages > 0 && (self.is_removed || self.over_limit > 0 || self.changes != nothing)
    }

    /// Who would be blocked matters more than who would be suspect, whichever came first.
    fn remember(&mut self, verdict: &Verdict, decision: Decision, change: ChangeKind, max: usize) {
        let message = &verdict.message;
        let at = self.examples.partition_point(|example| example.change <= change);
        if at >= max {
            return;
        }
        self.examples.truncate(max - 1);
        let example = Example {
            id: message.id,
            accepted_at: message.accepted_at,
            identity: message.identity.clone(),
            subject: message.subject.clone(),
            change,
            was: message.classification,
            would_be: decision.classification,
            score: verdict.score,
        };
        self.examples.insert(at, example);
    }
}

impl Changes {
    /// Counts a message; gives what changes, if something does.
    fn add(&mut self, verdict: &Verdict, decision: Decision, policy: &Policy) -> Option<ChangeKind> {
        let was = recompute::as_it_was(verdict);
        let of = |class: Classification| class.code().to_owned();
        let blocked = |decision: Decision| decision.disposition != Disposition::Release;
        match (blocked(was), blocked(decision)) {
            (false, true) => {
                *self.newly_blocked.entry(of(decision.classification)).or_default() += 1;
                return Some(ChangeKind::Blocked);
            }
            (true, false) => {
                *self.newly_passed.entry(of(was.classification)).or_default() += 1;
                return Some(ChangeKind::Passed);
            }
            (true, true) => {
                let is_250 = decision.response(policy) == QuarantineResponse::Accept;
                let was_250 = verdict.basis.as_ref().map(|basis| basis.told_250);
                self.newly_550 += u64::from(was_250 == Some(true) && !is_250);
                self.newly_250 += u64::from(was_250 == Some(false) && is_250);
            }
            (false, false) => {}
        }
        if was.classification == decision.classification {
            self.unchanged += 1;
            return None;
        }
        if decision.classification == Classification::Suspect {
            self.newly_suspect += 1;
            return Some(ChangeKind::Suspect);
        }
        let change = format!("{} -> {}", was.classification, decision.classification);
        *self.otherwise.entry(change).or_default() += 1;
        Some(ChangeKind::Otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatif::samples::{START, policy, verdict};
    use Classification as C;
    use std::time::Duration;

    fn decided(classification: C) -> Found {
        let passes = matches!(classification, C::Clean | C::Suspect | C::AllowListed | C::ObserveOnly);
        let disposition = if passes { Disposition::Release } else { Disposition::Quarantine };
        Found::Decided { decision: Decision::of(classification, disposition), from_body: false }
    }

    fn scope() -> Scope {
        Scope { since: START, examples: 2, suggest: true }
    }

    #[test]
    fn what_changes_is_counted_by_kind_and_user() {
        let mut fold = Fold::new(scope());
        let policy = policy("{}");
        for (user, was, now) in [
            ("a", C::Clean, decided(C::Suspect)),
            ("a", C::Clean, decided(C::Spam)),
            ("a", C::Clean, decided(C::BlockedSender)),
            ("a", C::Suspect, decided(C::Suspect)),
            ("b", C::Spam, decided(C::Clean)),
            ("b", C::Clean, decided(C::ObserveOnly)),
            ("b", C::Spam, decided(C::BlockedSender)),
            ("c", C::Clean, decided(C::Clean)),
            ("c", C::Clean, Found::Unknown),
            ("c", C::Clean, Found::TooOld),
            ("c", C::Clean, Found::NotRead),
        ] {
            fold.take(&verdict(user, 0, was), &policy, now);
        }
        fold.take_of_removed(&verdict("d", 0, C::Clean));
        let (totals, rows, left_out, suggestions) = fold.end();
        let changes = &totals.changes;
        assert_eq!((totals.messages, totals.recomputed, changes.unchanged), (12, 8, 2));
        assert_eq!((totals.unknown, totals.too_old, totals.not_read), (1, 1, 1));
        let map = |map: &std::collections::BTreeMap<String, u64>| {
            map.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(map(&changes.newly_blocked), "blocked_sender 1, spam 1");
        assert_eq!(map(&changes.newly_passed), "spam 1");
        assert_eq!(map(&changes.otherwise), "clean -> observe_only 1, spam -> blocked_sender 1");
        assert_eq!((changes.newly_suspect, totals.of_users_without_settings), (1, 1));
        let users: Vec<_> = rows.iter().map(|row| row.user.as_str()).collect();
        assert_eq!((users, left_out), (vec!["a", "b", "d"], 0), "nothing changes for c");
        let kinds: Vec<_> = rows[0].examples.iter().map(|example| example.would_be).collect();
        assert_eq!(kinds, [C::Spam, C::BlockedSender], "the suspect one made room");
        assert_eq!(suggestions.unwrap().len(), 3);
    }

    #[test]
    fn users_are_bounded_and_the_most_blocked_stay() {
        let mut fold = Fold::new(scope());
        for number in 0..MAX_USERS + 3 {
            let class = if number == MAX_USERS + 1 { C::Spam } else { C::Suspect };
            fold.take(&verdict(&format!("u{number}"), 0, C::Clean), &policy("{}"), decided(class));
            if number % 400 == 0 {
                fold.end_of_partition();
            }
        }
        let (totals, rows, left_out, _) = fold.end();
        assert_eq!((rows.len(), left_out, totals.messages), (MAX_USERS, 3, MAX_USERS as u64 + 3));
        assert_eq!(rows[0].user.0, format!("u{}", MAX_USERS + 1));
    }

    #[test]
    fn what_a_limit_keeps_back_is_what_would_be_released() {
        let mut fold = Fold::new(scope());
        let policy = policy(r#"{"limits": {"messages_per_hour": 2}}"#);
        let mut before = verdict("a", 0, C::Clean);
        before.message.accepted_at = START.minus(Duration::from_secs(60));
        fold.take(&before, &policy, decided(C::Clean));
        fold.take(&verdict("a", 1, C::Clean), &policy, decided(C::Spam));
        fold.take(&verdict("a", 2, C::Spam), &policy, decided(C::Clean));
        fold.take(&verdict("a", 3, C::Clean), &policy, Found::TooOld);
        let (totals, rows, ..) = fold.end();
        assert_eq!((totals.messages, totals.over_limit, rows[0].over_limit), (3, 1, 1));
        assert_eq!(rows[0].limits[0].messages, 1);
    }

    #[test]
    fn another_answer_to_the_client_is_a_change() {
        let mut changes = Changes::default();
        let mut verdict = verdict("a", 0, C::Spam);
        let spam = Decision::of(C::Spam, Disposition::Quarantine);
        let (reject, accept) = (policy("{}"), policy(r#"{"quarantine_response": "accept"}"#));
        assert_eq!(changes.add(&verdict, spam, &accept), None);
        verdict.basis.as_mut().unwrap().told_250 = true;
        changes.add(&verdict, spam, &reject);
        changes.add(&verdict, spam, &accept);
        assert_eq!((changes.newly_250, changes.newly_550, changes.unchanged), (1, 1, 3));
    }
}
