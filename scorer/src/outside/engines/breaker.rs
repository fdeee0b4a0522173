//! Whether an engine is asked at all: one that failed some times in a row is left alone, until it answers a ping that no
//! message waits for. A failure while the engine answers others is the message's own: whoever sends what no engine can bear
//! must not take it from everybody.

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
    /// How many messages it has answered about.
    answers: u64,
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
        Breaker {
            threshold: threshold.max(1),
            failures: 0,
            answers: 0,
            is_open: false,
            pause: FIRST_PAUSE,
            opening: 0,
        }
    }

    /// The engine is not asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// How many messages it has answered about; whoever begins to ask takes it along, for `failed`.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// It answered about a message.
    pub fn succeeded(&mut self) {
        self.answers += 1;
        self.failures = 0;
        self.is_open = false;
        self.pause = FIRST_PAUSE;
    }

    /// It did not, and had given so many `answers` when this message began to ask. The number of the opening, when that
    /// opened it.
    pub fn failed(&mut self, answers: u64) -> Option<u64> {
        if self.answers != answers {
            return None;
        }
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

    /// A ping of this opening was answered, or not. An engine that answers pings and nothing else is left alone for longer each
    /// time.
    pub fn pinged(&mut self, opening: u64, answered: bool) {
        if self.pause(opening).is_none() {
            return;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if answered {
            self.is_open = false;
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The openings by messages that ask together; who is answered is answered first.
    fn group(breaker: &mut Breaker, answered: usize, failed: usize) -> Vec<u64> {
        let answers = breaker.answers();
        (0..answered).for_each(|_| breaker.succeeded());
        (0..failed).filter_map(|_| breaker.failed(answers)).collect()
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_a_ping() {
        let mut breaker = Breaker::new(3);
        assert!(group(&mut breaker, 0, 2).is_empty());
        breaker.succeeded();
        assert!(group(&mut breaker, 0, 2).is_empty() && !breaker.is_open());
        assert_eq!(group(&mut breaker, 0, 2), [1]);
        assert_eq!(breaker.pause(1), Some(FIRST_PAUSE));
        breaker.pinged(1, false);
        assert!(breaker.is_open());
        assert_eq!(breaker.pause(1), Some(FIRST_PAUSE * 2));
        breaker.pinged(1, true);
        assert!(!breaker.is_open() && breaker.pause(1).is_none());
        // Pings alone do not make it good.
        assert!(group(&mut breaker, 0, 2).is_empty(), "it is given as many chances as before");
        assert_eq!(group(&mut breaker, 0, 1), [2]);
        assert_eq!(breaker.pause(2), Some(FIRST_PAUSE * 4));
        breaker.succeeded();
        assert!(group(&mut breaker, 0, 1).is_empty() && !breaker.is_open());
        breaker.pinged(2, true);
        assert_eq!(group(&mut breaker, 0, 3), [3]);
        assert_eq!(breaker.pause(3), Some(FIRST_PAUSE), "an answer made it good");
    }

    #[test]
    fn messages_that_it_cannot_bear_do_not_open_it_while_it_answers_others() {
        let mut breaker = Breaker::new(3);
        for _ in 0..100 {
            assert!(group(&mut breaker, 1, 50).is_empty() && !breaker.is_open());
            assert!(group(&mut breaker, 0, 2).is_empty() && !breaker.is_open());
        }
        // Groups that overlap: what ends late began before others were answered.
        let early = breaker.answers();
        for _ in 0..100 {
            breaker.succeeded();
            assert_eq!(breaker.failed(early), None);
        }
        // It answers nobody any more.
        assert_eq!(group(&mut breaker, 0, 50), [1]);
    }

    #[test]
    fn whoever_waits_for_an_earlier_opening_changes_nothing() {
        let mut breaker = Breaker::new(1);
        assert_eq!(group(&mut breaker, 0, 1), [1]);
        // An answer that was under way.
        breaker.succeeded();
        assert_eq!(group(&mut breaker, 0, 1), [2]);
        breaker.pinged(1, true);
        assert!(breaker.is_open() && breaker.pause(1).is_none());
        for _ in 0..20 {
            breaker.pinged(2, false);
        }
        assert_eq!(breaker.pause(2), Some(LONGEST_PAUSE));
    }
}
