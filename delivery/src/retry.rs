//! When a deferred message is tried again.

use std::time::Duration;

use schemas::{MessageId, Timestamp};

/// Delays before the second, third ... try; the last one repeats.
#[derive(Clone, Debug)]
pub struct RetrySchedule {
    delays: Vec<Duration>,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        let minutes = [1, 5, 15, 30, 60, 120, 240];
        RetrySchedule { delays: minutes.map(|m| Duration::from_secs(m * 60)).to_vec() }
    }
}

impl RetrySchedule {
    /// An empty list is the default schedule.
    #[must_use]
    pub fn new(delays: Vec<Duration>) -> Self {
        if delays.is_empty() { Self::default() } else { RetrySchedule { delays } }
    }

    /// When to try again after `tries` tries, the last one at `now`: up to 20 % later than the schedule says, the same for
    /// the same message and try, and never after `expires_at`, which gets a last try.
    #[must_use]
    pub fn next(
        &self,
        message_id: MessageId,
        tries: u32,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Timestamp {
        let index = (tries.saturating_sub(1) as usize).min(self.delays.len() - 1);
        let delay = self.delays[index];
        let jitter = delay.mul_f64(0.2 * f64::from(spread(message_id, tries)) / f64::from(u16::MAX));
        let next = now.plus(delay + jitter);
        if now < expires_at { next.min(expires_at) } else { next }
    }
}

/// Spreads messages evenly: FNV-1a of id and try.
fn spread(message_id: MessageId, tries: u32) -> u16 {
    let text = format!("{message_id}{tries}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_ends_with_the_time_to_retry() {
        let (schedule, now) = (RetrySchedule::default(), Timestamp(1_000_000));
        let id = MessageId::derived("x", now);
        let far = Timestamp(i64::MAX);
        let minutes = |tries| schedule.next(id, tries, now, far).since(now).as_secs() / 60;
        assert!(
            (1..=2).contains(&minutes(1))
                && (5..=6).contains(&minutes(2))
                && (240..=288).contains(&minutes(50))
        );
        assert_eq!(
            schedule.next(id, 2, now, now.plus(Duration::from_secs(9))),
            now.plus(Duration::from_secs(9))
        );
        assert_eq!(schedule.next(id, 3, now, far), schedule.next(id, 3, now, far));
    }
}
