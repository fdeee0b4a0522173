//! Limits for a user from what it sends itself.

use std::collections::BTreeMap;

use schemas::limits::Kind;
use schemas::settings::Limits;
use schemas::{Timestamp, UserId};

use super::answer::{Pace, Suggestion};

/// The limits that are suggested, each with how many times something must have been sent for a percentile to mean something.
const SUGGESTED: [(Kind, u64); 4] = [
    (Kind::MessagesPerMinute, 50),
    (Kind::MessagesPerHour, 24),
    (Kind::MessagesPerDay, 3),
    (Kind::RecipientsPerDay, 3),
];
/// Of the 99th percentile, this much, in halves.
const HALVES: u64 = 3;
/// No limit is suggested below this: who writes ten letters is no bulk sender.
const LEAST: u64 = 10;
/// Counts above this are told apart by three digits only, so that a user needs little memory however much it sends.
const EXACT: u64 = 1000;

/// What one user sends, by the minute, hour and day.
#[derive(Debug, Default)]
pub struct History {
    messages: u64,
    times: [Times; SUGGESTED.len()],
}

/// How often how much was sent within one minute, hour or day.
#[derive(Debug, Default)]
struct Times {
    /// Its number since 1970.
    current: i64,
    count: u64,
    /// By count, how many of those that are over.
    over: BTreeMap<u64, u64>,
}

impl Times {
    fn add(&mut self, number: i64, n: u64) {
        // One that comes late counts in the newest: messages stand nearly in their order.
        if number > self.current {
            self.close();
            self.current = number;
        }
        self.count += n;
    }

    fn close(&mut self) {
        if self.count > 0 {
            *self.over.entry(rounded(self.count)).or_default() += 1;
        }
        self.count = 0;
    }

    fn pace(&self, kind: Kind, least_times: u64) -> Pace {
        let times = self.over.values().sum();
        let p99 = percentile(&self.over, 99);
        let suggested = (times >= least_times).then(|| readable((p99 * HALVES).div_ceil(2)).max(LEAST));
        Pace {
            limit: kind.name().to_owned(),
            times,
            p50: percentile(&self.over, 50),
            p99,
            p100: percentile(&self.over, 100),
            suggested,
            over: suggested.map_or(0, |limit| self.over.range(limit + 1..).map(|(_, times)| times).sum()),
        }
    }
}

impl History {
    /// Takes a message that is let go.
    pub fn take(&mut self, at: Timestamp, recipients: u64) {
        self.messages += 1;
        for (times, (kind, _)) in self.times.iter_mut().zip(SUGGESTED) {
            let span = i64::try_from(kind.span().as_millis()).unwrap_or(i64::MAX);
            times.add(at.0.div_euclid(span), kind.cost(recipients));
        }
    }

    /// `limits`: what the user has now.
    #[must_use]
    pub fn suggestion(mut self, user: UserId, mut limits: Limits) -> Suggestion {
        let mut paces = Vec::new();
        for (times, (kind, least_times)) in self.times.iter_mut().zip(SUGGESTED) {
            times.close();
            let pace = times.pace(kind, least_times);
            if let Some(limit) = pace.suggested {
                kind.set(&mut limits, limit);
            }
            paces.push(pace);
        }
        Suggestion { user, messages: self.messages, paces, limits }
    }
}

/// The smallest count that so many per cent of the times do not exceed.
fn percentile(counts: &BTreeMap<u64, u64>, per_cent: u64) -> u64 {
    let wanted = (counts.values().sum::<u64>() * per_cent).div_ceil(100);
    let mut seen = 0;
    for (count, times) in counts {
        seen += times;
        if seen >= wanted {
            return *count;
        }
    }
    0
}

/// Up to three digits.
fn rounded(count: u64) -> u64 {
    let mut unit = 1;
    while count / unit >= EXACT {
        unit *= 10;
    }
    count.div_ceil(unit) * unit
}

/// Up to a number that one remembers: 15, 60, 250, 3500.
fn readable(count: u64) -> u64 {
    let mut unit = 5;
    while count.div_ceil(unit) > 20 {
        unit *= 10;
    }
    count.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatif::samples::START;
    use std::time::Duration;

    #[test]
    fn numbers_are_readable_and_never_smaller() {
        for (count, shown) in [
            (0, 0),
            (1, 5),
            (11, 15),
            (51, 55),
            (100, 100),
            (101, 150),
            (612, 650),
            (1234, 1500),
            (99_999, 100_000),
        ] {
            assert_eq!(readable(count), shown, "{count}");
        }
        for count in 0..20_000 {
            assert!(readable(count) >= count && rounded(count) >= count);
        }
        assert_eq!(rounded(123_456), 124_000);
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let list: Vec<u64> = (1..=200).collect();
        let counts = list.iter().map(|count| (*count, 1)).collect();
        assert_eq!([50, 99, 100].map(|per_cent| percentile(&counts, per_cent)), [100, 198, 200]);
        assert_eq!(percentile(&BTreeMap::new(), 99), 0);
    }

    #[test]
    fn limits_leave_room_and_ask_for_a_sample() {
        let mut history = History::default();
        // For five days, every hour 20 messages to two recipients each, in one minute.
        for hour in 0..5 * 24 {
            for second in 0..20 {
                history.take(START.plus(Duration::from_secs(hour * 3600 + second)), 2);
            }
        }
        let has = Limits { messages_per_month: Some(9), messages_per_hour: Some(1), ..Limits::default() };
        let suggestion = history.suggestion(UserId("a.example".into()), has);
        let limits = suggestion.limits;
        assert_eq!((limits.messages_per_minute, limits.messages_per_hour), (Some(30), Some(30)));
        assert_eq!((limits.messages_per_day, limits.recipients_per_day), (Some(750), Some(1500)));
        assert_eq!(limits.messages_per_month, Some(9), "what is not suggested stays");
        let mut few = History::default();
        few.take(START, 1);
        let suggestion = few.suggestion(UserId("a.example".into()), Limits::default());
        assert_eq!((suggestion.limits, suggestion.paces[1].p50), (Limits::default(), 1));
    }
}
