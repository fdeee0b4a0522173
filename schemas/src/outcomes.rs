//! What lately became of the recipients of a user or of one of its identities: a few numbers, kept for every sender.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Numbers are kept for this period and the one before it.
const PERIOD: Duration = Duration::from_secs(12 * 3600);

/// Numbers of recipients in two periods, the newer one first. What is asked for is the last 12 to 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Which half day (counted from 1970) the first numbers are of.
    period: i64,
    numbers: [Numbers; 2],
}

/// Recipients, by what became of them. Mail that is only passed on is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct Numbers {
    /// Whose mail was released.
    pub sent: u64,
    /// Who do not exist, as their receiver says.
    pub invalid: u64,
    /// Whose receiver refused the mail for another reason, for good.
    pub refused: u64,
}

impl From<[u64; 3]> for Numbers {
    fn from([sent, invalid, refused]: [u64; 3]) -> Self {
        Numbers { sent, invalid, refused }
    }
}

impl From<Numbers> for [u64; 3] {
    fn from(Numbers { sent, invalid, refused }: Numbers) -> Self {
        [sent, invalid, refused]
    }
}

impl Numbers {
    fn plus(self, other: Numbers) -> Numbers {
        Numbers {
            sent: self.sent + other.sent,
            invalid: self.invalid + other.invalid,
            refused: self.refused + other.refused,
        }
    }

    /// How many these are of: some of yesterday's may become known today.
    #[must_use]
    pub fn sample(&self) -> u64 {
        self.sent.max(self.invalid + self.refused)
    }
}

impl Outcomes {
    /// Adds numbers. Time does not go backwards: what is late counts in the newest period.
    pub fn add(&mut self, at: Timestamp, numbers: Numbers) {
        let period = period_of(at);
        match period - self.period {
            ..=0 => {}
            1 => self.numbers = [Numbers::default(), self.numbers[0]],
            _ => self.numbers = [Numbers::default(); 2],
        }
        self.period = period.max(self.period);
        self.numbers[0] = self.numbers[0].plus(numbers);
    }

    /// The numbers of the last 12 to 24 hours.
    #[must_use]
    pub fn lately(&self, now: Timestamp) -> Numbers {
        match period_of(now) - self.period {
            ..=0 => self.numbers[0].plus(self.numbers[1]),
            1 => self.numbers[0],
            _ => Numbers::default(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Outcomes::default()
    }
}

fn period_of(at: Timestamp) -> i64 {
    at.0.div_euclid(i64::try_from(PERIOD.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_the_last_half_day_to_day() {
        let start = Timestamp(1_795_512_600_000);
        let hours = |n: u32| start.plus(Duration::from_secs(3600) * n);
        for first in 0..12 {
            let (mut outcomes, sent) = (Outcomes::default(), Numbers { sent: 3, invalid: 1, refused: 1 });
            outcomes.add(hours(first), sent);
            assert_eq!(outcomes.lately(hours(first + 12)), sent);
            assert_eq!(outcomes.lately(hours(first + 24)), Numbers::default());
            outcomes.add(hours(first + 12), sent);
            outcomes.add(start, sent);
            assert_eq!(outcomes.lately(hours(first + 12)).invalid, 3, "what is late counts");
            outcomes.add(hours(first + 48), sent);
            assert_eq!(outcomes.lately(hours(first + 48)), sent);
        }
    }

    #[test]
    fn yesterdays_failures_do_not_exceed_their_sample() {
        assert_eq!(Numbers { sent: 5, invalid: 20, refused: 1 }.sample(), 21);
        assert_eq!(Numbers { sent: 50, invalid: 20, refused: 1 }.sample(), 50);
    }
}
