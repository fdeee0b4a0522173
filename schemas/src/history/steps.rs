//! Counts in a window that slides in steps.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Counts of the newest step and the `KEPT` before it: what was counted within a window of `KEPT` steps, and at most one
/// step more. In JSON the newest step and the counts up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps<const KEPT: usize>(i64, Vec<u32>);

/// New identities of a user, by steps of five minutes: those of the last hour.
pub type Arrivals = Steps<12>;

impl<const KEPT: usize> Steps<KEPT> {
    /// Counts `n` in a step; one before the newest counts in that: windows never slide backwards.
    pub fn add(&mut self, step: i64, n: u32) {
        if n == 0 {
            return;
        }
        let Steps(newest, counts) = self;
        if !counts.is_empty() {
            let ahead = usize::try_from(step.saturating_sub(*newest)).unwrap_or(0);
            if ahead > KEPT {
                counts.clear();
            } else {
                counts.resize(counts.len() + ahead, 0);
            }
            *newest = step.max(*newest);
        } else {
            *newest = step;
        }
        match counts.last_mut() {
            Some(count) => *count = count.saturating_add(n),
            None => counts.push(n),
        }
        let surplus = counts.len().saturating_sub(KEPT + 1);
        let zeros = counts[surplus..].iter().take_while(|count| **count == 0).count();
        counts.drain(..surplus + zeros);
    }

    /// What the window holds when it ends with `step`.
    #[must_use]
    pub fn count(&self, step: i64) -> u32 {
        let end = step.max(self.0);
        self.sum(end.saturating_sub(KEPT as i64), end)
    }

    /// What was counted from step `first` to step `last`, as far as it is kept.
    #[must_use]
    pub fn sum(&self, first: i64, last: i64) -> u32 {
        let within = self.iter().filter(|(step, _)| (first..=last).contains(step));
        within.fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// Each step with what was counted in it, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        let first = self.0.saturating_sub(self.1.len() as i64 - 1);
        self.1.iter().enumerate().map(move |(at, count)| (first.saturating_add(at as i64), *count))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.1.is_empty()
    }
}

/// Number of the five minutes that a time is in.
#[must_use]
pub fn five_minutes_of(at: Timestamp) -> i64 {
    at.0.div_euclid(300_000)
}

/// Number of the hour.
#[must_use]
pub fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(3_600_000)
}

/// Number of the day, UTC.
#[must_use]
pub fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_history_takes_more_room_than_its_window() {
        let mut steps = Steps::<12>::default();
        for step in 0..100 {
            steps.add(step, 1);
            assert!(steps.1.len() <= 13);
        }
        steps.add(1000, 1);
        assert_eq!(steps, Steps(1000, vec![1]));
        steps.add(1005, 0);
        assert_eq!(steps, Steps(1000, vec![1]), "nothing counted, nothing written");
        steps.add(i64::MAX, 2);
        assert_eq!((steps.count(i64::MAX), steps.count(0)), (2, 2));
    }

    proptest! {
        /// Against a list of everything that was ever counted.
        #[test]
        fn a_window_counts_what_it_should(events in proptest::collection::vec((-40i64..40, 1u32..5), 1..60)) {
            let (mut steps, mut model) = (Steps::<12>::default(), Vec::new());
            let (mut step, mut newest) = (1_000_000, i64::MIN);
            for (change, n) in events {
                // mostly on, sometimes back: what is late counts as of the newest
                step += change.max(change / 4);
                newest = newest.max(step);
                steps.add(step, n);
                model.push((newest, n));
                for end in [newest - 3, newest, newest + 5, newest + 30] {
                    let end_of_window = end.max(newest);
                    let sum: u32 = model.iter().filter(|(s, _)| *s >= end_of_window - 12).map(|(_, n)| n).sum();
                    prop_assert_eq!(steps.count(end), sum);
                }
                let text = serde_json::to_string(&steps).unwrap();
                prop_assert_eq!(serde_json::from_str::<Steps<12>>(&text).unwrap(), steps.clone());
            }
        }
    }
}
