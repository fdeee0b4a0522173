//! The limits of one user, replayed over its messages with the scorer's own counters.

use std::collections::BTreeMap;

use schemas::limits::{self, Asked, Counters, Distinct, Kind, Over, Window};
use schemas::settings::Limits;
use schemas::verdict::{Classification, Verdict};

use super::answer::LimitHit;

/// What can be replayed. Which recipients turned out to be invalid, and when, does not stand in verdicts.
pub const REPLAYED: [Kind; 6] = [
    Kind::MessagesPerMonth,
    Kind::MessagesPerDay,
    Kind::RecipientsPerDay,
    Kind::MessagesPerHour,
    Kind::MessagesPerMinute,
    Kind::DistinctRecipientsPerDay,
];

/// What a user sent so far, under limits that may not be those in force.
#[derive(Debug, Default)]
pub struct Replay {
    counters: Counters,
    distinct: Distinct,
    wanted: BTreeMap<Kind, Wanted>,
    hits: BTreeMap<Kind, LimitHit>,
}

/// What it would have sent within the time of one limit, had that not been.
#[derive(Debug, Default)]
struct Wanted {
    window: Window,
    /// In place of the window, of different recipients.
    distinct: Distinct,
    most: u64,
}

impl Replay {
    /// Takes a message that would be released, in the order in which they were judged. `is_counted`: it is of the period, and not of
    /// the time before it, which only fills the windows. Gives the limit that would have kept it back.
    pub fn take(
        &mut self,
        verdict: &Verdict,
        limits: &Limits,
        is_counted: bool,
        classification: Classification,
    ) -> Option<Over> {
        let message = &verdict.message;
        let at = message.accepted_at;
        let of_distinct = limits.distinct_recipients_per_day.is_some();
        let asked = Asked::of(verdict.recipients.iter(), message.forwarded, of_distinct);
        for kind in REPLAYED.into_iter().filter(|kind| kind.limit(limits).is_some()) {
            let wanted = self.wanted.entry(kind).or_default();
            let count = if kind == Kind::DistinctRecipientsPerDay {
                wanted.distinct.add(at, &asked.hashes);
                wanted.distinct.count(at)
            } else {
                wanted.window.add(at, kind.cost(asked.recipients), kind.span());
                wanted.window.count(at, kind.span())
            };
            if is_counted {
                wanted.most = wanted.most.max(count);
            }
        }
        // What is on an allow list counts, and is never kept back.
        let is_exempt = classification == Classification::AllowListed;
        let over = limits::over(&self.counters, &self.distinct, at, &asked, limits).filter(|_| !is_exempt);
        let Some(over) = over else {
            self.counters.count(at, &asked, limits);
            if of_distinct {
                self.distinct.add(at, &asked.hashes);
            }
            return None;
        };
        if !is_counted {
            return None;
        }
        let hit = self.hits.entry(over.kind).or_insert_with(|| LimitHit {
            limit: over.kind.name().to_owned(),
            set_to: over.limit,
            messages: 0,
            first: at,
            first_id: message.id,
            largest_burst: 0,
        });
        hit.messages += 1;
        Some(over)
    }

    /// The limits that were reached.
    #[must_use]
    pub fn hits(&self) -> Vec<LimitHit> {
        let burst = |kind: &Kind| self.wanted.get(kind).map_or(0, |wanted| wanted.most);
        self.hits.iter().map(|(kind, hit)| LimitHit { largest_burst: burst(kind), ..hit.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatif::samples;
    use std::time::Duration;

    #[test]
    fn what_is_over_a_limit_is_counted_and_told() {
        let limits = Limits { messages_per_hour: Some(2), ..Limits::default() };
        let mut replay = Replay::default();
        let mut take = |minute: u64, is_counted, class| {
            replay.take(&samples::verdict("a", minute, class), &limits, is_counted, class).is_some()
        };
        use Classification::{AllowListed, Clean};
        assert!(!take(0, false, Clean), "before the period, but it counts");
        assert!(!take(1, true, Clean));
        assert!(take(2, true, Clean) && take(3, true, Clean));
        assert!(!take(4, true, AllowListed));
        // The first left the window, two remain; an hour later all have.
        assert!(take(61, true, Clean));
        assert!(!take(130, true, Clean));
        let hit = &replay.hits()[0];
        assert_eq!((hit.limit.as_str(), hit.set_to, hit.messages), ("messages_per_hour", 2, 3));
        assert_eq!(hit.first, samples::START.plus(Duration::from_secs(120)));
        assert_eq!(hit.largest_burst, 5);
    }

    #[test]
    fn recipients_count_against_their_own_limits() {
        let hits = |limits: &Limits| {
            let mut replay = Replay::default();
            let over = (0..4).map(|minute| {
                let mut verdict = samples::verdict("a", minute, Classification::Clean);
                // Two that are always the same, two that are new.
                let names = ["one".to_owned(), "two".to_owned(), format!("x{minute}"), format!("y{minute}")];
                verdict.recipients =
                    names.map(|name| schemas::Mailbox::parse(&format!("{name}@r.example")).unwrap()).to_vec();
                replay.take(&verdict, limits, true, Classification::Clean).is_some()
            });
            (over.collect::<Vec<_>>(), replay.hits())
        };
        let limits =
            Limits { recipients_per_day: Some(10), messages_per_day: Some(100), ..Limits::default() };
        let (over, found) = hits(&limits);
        assert_eq!(over, [false, false, true, true]);
        assert_eq!((found[0].limit.as_str(), found[0].largest_burst), ("recipients_per_day", 16));
        let limits = Limits { distinct_recipients_per_day: Some(8), ..Limits::default() };
        let (over, found) = hits(&limits);
        assert_eq!(over, [false, false, false, true]);
        assert_eq!((found[0].limit.as_str(), found[0].largest_burst), ("distinct_recipients_per_day", 10));
    }
}
