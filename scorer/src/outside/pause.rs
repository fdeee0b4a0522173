//! Whoever fails at several questions in a row is left in peace for a while, then tried with one.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Different questions in a row after whose failure it is.
const FAILURES: usize = 5;
const PAUSE: Duration = Duration::from_secs(10);

/// Of one peer.
#[derive(Debug, Default)]
pub struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Hashes: a question may hold a secret.
    failed: HashSet<u64>,
    hasher: RandomState,
    until: Option<Instant>,
}

impl Pause {
    /// Whether a question may be asked now. At the end of a pause one may, which decides how it goes on.
    pub fn lets_ask(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.until {
            Some(until) if now < until => false,
            Some(_) => {
                state.until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    pub fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// `true` when a pause begins with this failure.
    pub fn failed(&self, question: &str, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failing = state.failed.len() >= FAILURES;
        if !was_failing {
            let hash = state.hasher.hash_one(question);
            state.failed.insert(hash);
        }
        let is_failing = state.failed.len() >= FAILURES;
        if is_failing {
            state.until = Some(now + PAUSE);
        }
        is_failing && !was_failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_there_is_a_pause_and_then_one_question() {
        let (pause, start) = (Pause::default(), Instant::now());
        let name = |n: usize| format!("d{n}.example");
        for n in 1..FAILURES {
            assert!(!pause.failed(&name(n), start) && pause.lets_ask(start));
        }
        pause.answered();
        for n in 1..FAILURES {
            assert!(!pause.failed(&name(n), start), "they are counted anew");
        }
        for _ in 0..10 {
            assert!(!pause.failed(&name(1), start) && pause.lets_ask(start), "one question is one");
        }
        assert!(pause.failed(&name(FAILURES), start));
        assert!(!pause.failed(&name(FAILURES + 1), start), "told once");
        assert!(!pause.lets_ask(start + PAUSE - Duration::from_millis(1)));
        let later = start + PAUSE;
        assert!(pause.lets_ask(later) && !pause.lets_ask(later), "one question");
        pause.failed(&name(1), later);
        assert!(!pause.lets_ask(later + PAUSE / 2));
        assert!(pause.lets_ask(later + PAUSE));
        pause.answered();
        assert!(pause.lets_ask(later + PAUSE) && pause.lets_ask(later + PAUSE));
    }
}
