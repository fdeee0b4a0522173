//! Whether an engine is asked at all: one that failed some times in a row is left alone, until it answers a ping that no
//! message waits for.

use std::time::Duration;

/// Before the first ping of an engine that is left alone.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The state of one engine.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    /// In a row.
    failures: u32,
    is_open: bool,
    /// Until the next ping, while it is open.
    pause: Duration,
    /// How often it was opened: who waits to close one opening must not close a later one.
    opening: u64,
}

impl Breaker {
    /// Opens after `threshold` failures in a row.
    #[must_use]
    pub fn new(threshold: u32) -> Self {
        Breaker { threshold: threshold.max(1), failures: 0, is_open: false, pause: FIRST_PAUSE, opening: 0 }
    }

    /// The engine is not asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// It answered about a message.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.is_open = false;
        self.pause = FIRST_PAUSE;
    }

    /// It did not. The number of the opening, when that opened it.
    pub fn failed(&mut self) -> Option<u64> {
        self.failures = self.failures.saturating_add(1);
        if self.is_open || self.failures < self.threshold {
            return None;
        }
        self.is_open = true;
        self.opening += 1;
        Some(self.opening)
    }

    /// How long to wait until the next ping of this opening; none when it is over.
    #[must_use]
    pub fn pause(&self, opening: u64) -> Option<Duration> {
        (self.is_open && self.opening == opening).then_some(self.pause)
    }

    /// A ping of this opening was answered, or not. An engine that answers pings and nothing else is given up at its next
    /// failure, and for longer.
    pub fn pinged(&mut self, opening: u64, answered: bool) {
        if self.pause(opening).is_none() {
            return;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if answered {
            self.is_open = false;
            self.failures = self.threshold - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_a_ping() {
        let mut breaker = Breaker::new(3);
        assert_eq!((breaker.failed(), breaker.failed()), (None, None));
        breaker.succeeded();
        assert_eq!((breaker.failed(), breaker.failed(), breaker.is_open()), (None, None, false));
        assert_eq!((breaker.failed(), breaker.failed()), (Some(1), None));
        assert_eq!(breaker.pause(1), Some(FIRST_PAUSE));
        breaker.pinged(1, false);
        assert!(breaker.is_open());
        assert_eq!(breaker.pause(1), Some(FIRST_PAUSE * 2));
        breaker.pinged(1, true);
        assert!(!breaker.is_open() && breaker.pause(1).is_none());
        // Pings alone do not make it good.
        assert_eq!(breaker.failed(), Some(2));
        assert_eq!(breaker.pause(2), Some(FIRST_PAUSE * 4));
        breaker.succeeded();
        assert_eq!((breaker.failed(), breaker.is_open()), (None, false));
    }

    #[test]
    fn whoever_waits_for_an_earlier_opening_changes_nothing() {
        let mut breaker = Breaker::new(1);
        assert_eq!(breaker.failed(), Some(1));
        // An answer that was under way.
        breaker.succeeded();
        assert_eq!(breaker.failed(), Some(2));
        breaker.pinged(1, true);
        assert!(breaker.is_open() && breaker.pause(1).is_none());
        for _ in 0..20 {
            breaker.pinged(2, false);
        }
        assert_eq!(breaker.pause(2), Some(LONGEST_PAUSE));
    }
}
