//! What is usual: mean, spread and maximum of a number that is learnt once an hour or a day.

use serde::{Deserialize, Serialize};

/// A number that grows may grow at once by this factor of what was usual, and to no less than this: so one day of abuse
/// does not become the usual, and growth does within days.
const MAX_GROWTH: f32 = 2.0;
const MAX_START: f32 = 20.0;
/// The first numbers are taken as they are.
const TRUSTED: u16 = 3;

/// Exponentially decayed mean and spread, and the largest number of this period and the one before. In JSON an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Usual {
    /// How many numbers the mean is of; not above what is remembered.
    numbers: u16,
    mean: f32,
    variance: f32,
    largest: u32,
    largest_before: u32,
}

type Written = (u16, f32, f32, u32, u32);

impl From<Written> for Usual {
    fn from((numbers, mean, variance, largest, largest_before): Written) -> Self {
        Usual { numbers, mean, variance, largest, largest_before }
    }
}

impl From<Usual> for Written {
    fn from(usual: Usual) -> Self {
        (usual.numbers, usual.mean, usual.variance, usual.largest, usual.largest_before)
    }
}

impl Usual {
    /// Learns a number; each of the last `memory` weighs the most.
    pub fn learn(&mut self, number: u32, memory: u16) {
        let mut number = number as f32;
        if self.numbers >= TRUSTED {
            number = number.min((self.ceiling() * MAX_GROWTH).max(MAX_START));
        }
        self.numbers = self.numbers.saturating_add(1).min(memory.max(1));
        let share = 1.0 / f32::from(self.numbers);
        let off = number - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
        self.largest = self.largest.max(number as u32);
    }

    /// Begins a new period.
    pub fn next_period(&mut self) {
        self.largest_before = std::mem::take(&mut self.largest);
    }

    #[must_use]
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// Standard deviation.
    #[must_use]
    pub fn spread(&self) -> f32 {
        self.variance.max(0.0).sqrt()
    }

    /// The largest number of the last weeks.
    #[must_use]
    pub fn largest(&self) -> u32 {
        self.largest.max(self.largest_before)
    }

    /// Nothing up to this is unusual: the largest of the last weeks, and three times the spread above the mean.
    #[must_use]
    pub fn ceiling(&self) -> f32 {
        (self.largest() as f32).max(self.mean + 3.0 * self.spread()).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn abuse_does_not_become_usual_at_once() {
        let mut usual = Usual::default();
        for number in [3, 4, 2, 5, 3, 4] {
            usual.learn(number, 30);
        }
        assert_eq!((usual.largest(), usual.mean().round()), (5, 4.0));
        usual.learn(5000, 30);
        assert_eq!(usual.largest(), 20);
        usual.learn(5000, 30);
        assert!(usual.largest() <= 60, "{usual:?}");
        usual.next_period();
        assert!(usual.largest() > 5);
        usual.next_period();
        assert_eq!(usual.largest(), 0);
    }

    proptest! {
        /// As long as all are remembered and none is clipped, the plain mean and standard deviation.
        #[test]
        fn mean_and_spread_are_those_of_the_numbers(numbers in proptest::collection::vec(0u32..20, 1..60)) {
            let mut usual = Usual::default();
            numbers.iter().for_each(|number| usual.learn(*number, 60));
            let n = numbers.len() as f64;
            let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let variance = numbers.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
            prop_assert!((f64::from(usual.mean()) - mean).abs() < 1e-3);
            prop_assert!((f64::from(usual.spread()) - variance.sqrt()).abs() < 1e-2);
            prop_assert_eq!(usual.largest(), *numbers.iter().max().unwrap());
            let text = serde_json::to_string(&usual).unwrap();
            prop_assert_eq!(serde_json::from_str::<Usual>(&text).unwrap(), usual);
        }

        /// The mean of more than are remembered stays within what they were, and nearer to the last.
        #[test]
        fn old_numbers_fade(old in 0u32..20, new in 0u32..20) {
            let mut usual = Usual::default();
            (0..50).for_each(|_| usual.learn(old, 30));
            (0..120).for_each(|_| usual.learn(new, 30));
            prop_assert!((usual.mean() - new as f32).abs() < 0.5, "{:?}", usual);
        }
    }
}
