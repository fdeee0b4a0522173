//! Whoever fails several times in a row is left in peace for a while, then tried with one question.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which it is.
const FAILURES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(10);

/// Of one peer.
#[derive(Debug, Default)]
pub struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
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
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        let begins = state.failures == FAILURES;
        if state.failures >= FAILURES {
            state.until = Some(now + PAUSE);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_there_is_a_pause_and_then_one_question() {
        let (pause, start) = (Pause::default(), Instant::now());
        for _ in 1..FAILURES {
            assert!(!pause.failed(start) && pause.lets_ask(start));
        }
        pause.answered();
        for _ in 1..FAILURES {
            assert!(!pause.failed(start), "they are counted anew");
        }
        assert!(pause.failed(start));
        assert!(!pause.failed(start), "told once");
        assert!(!pause.lets_ask(start + PAUSE - Duration::from_millis(1)));
        let later = start + PAUSE;
        assert!(pause.lets_ask(later) && !pause.lets_ask(later), "one question");
        pause.failed(later);
        assert!(!pause.lets_ask(later + PAUSE / 2));
        assert!(pause.lets_ask(later + PAUSE));
        pause.answered();
        assert!(pause.lets_ask(later + PAUSE) && pause.lets_ask(later + PAUSE));
    }
}
