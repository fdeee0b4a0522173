//! What was counted within a sliding time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A window slides in steps of this part of itself: what it counts is never less than what was sent within it, and never
/// more than what was sent within it and one step.
pub(super) const STEPS: i64 = 60;

/// What was counted, by step; only steps with something, oldest first: step number and count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(pub(super) Vec<(i64, u64)>);

impl Window {
    /// Counts `n` at a time. What the window has left behind by then is forgotten; a time before the newest step counts in
    /// that: windows never slide backwards.
    pub fn add(&mut self, at: Timestamp, n: u64, span: Duration) {
        let newest = self.0.last().map_or(i64::MIN, |(step, _)| *step);
        let step = step_of(at, span).max(newest);
        self.0.retain(|(old, _)| *old >= step - STEPS);
        match self.0.last_mut() {
            Some((last, count)) if *last == step => *count += n,
            _ => self.0.push((step, n)),
        }
    }

    /// What was counted within `span` before `now`.
    #[must_use]
    pub fn count(&self, now: Timestamp, span: Duration) -> u64 {
        let newest = self.0.last().map_or(i64::MIN, |(step, _)| *step);
        let first = step_of(now, span).max(newest) - STEPS;
        self.0.iter().filter(|(step, _)| *step >= first).map(|(_, count)| count).sum()
    }

    /// When no more than `rest` will be left of what is counted now.
    #[must_use]
    pub fn down_to(&self, rest: u64, span: Duration) -> Timestamp {
        let mut left: u64 = self.0.iter().map(|(_, count)| count).sum();
        let mut at = Timestamp(0);
        for (step, count) in &self.0 {
            if left <= rest {
                break;
            }
            left -= count;
            at = Timestamp((step + STEPS + 1) * width(span));
        }
        at
    }

    /// When something leaves the window.
    pub(super) fn leaves(&self, span: Duration) -> impl Iterator<Item = Timestamp> {
        self.0.iter().map(move |(step, _)| Timestamp((step + STEPS + 1) * width(span)))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Milliseconds of a step.
pub(super) fn width(span: Duration) -> i64 {
    (i64::try_from(span.as_millis()).unwrap_or(i64::MAX) / STEPS).max(1)
}

fn step_of(at: Timestamp, span: Duration) -> i64 {
    at.0.div_euclid(width(span))
}
