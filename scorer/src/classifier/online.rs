//! Learning while in use: each time somebody says that a verdict was wrong, the weights of what was seen in the message move a
//! little. What is learnt lies on top of the trained model, which is never changed.

use std::collections::BTreeMap;

use schemas::models::{Delta, Feedback};

use super::features::{BLOCKS, BUCKETS};
use super::model::{FORMAT, Model};

/// Legitimate mail that was thought spam with at most this probability teaches nothing.
const SURELY_HAM: f64 = 0.1;
/// Whatever is learnt counts at least as much as this error: spam that a person had to confirm just below the threshold is
/// missed as surely as any other.
const SMALLEST_MOVE: f64 = 0.3;
/// How far one message moves the sum: at most eight blocks, each by this times the error.
const RATE: f64 = 0.5;
/// A domain may always correct this much, and beyond it this share of what all have corrected: nobody's spam becomes everybody's
/// legitimate mail by being released often enough.
const FREE_INFLUENCE: f32 = 20.0;
const MAX_SHARE: f32 = 0.25;
/// Weights of one version, so that its record stays below the maximum; the smallest go first.
const MAX_WEIGHTS: usize = 40_000;
/// No weight moves further than this, in steps.
const MAX_STEPS: i32 = 8_000;
/// Domains remembered by name; those with the least influence go first.
const MAX_DOMAINS: usize = 5_000;

/// What came of one feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Learnt,
    /// The model says so already.
    Agreed,
    /// Its domain has had its share.
    Capped,
    /// It was given on features of another format.
    Foreign,
}

/// What is being learnt.
#[derive(Debug)]
pub struct Learning {
    base: Model,
    delta: Delta,
    weights: BTreeMap<u32, i32>,
}

impl Learning {
    /// Goes on from `delta`; from nothing when there is none, or it belongs to another model. Numbers go on in any case.
    #[must_use]
    pub fn from(base: Model, delta: Option<&Delta>) -> Self {
        let mut learning = Learning {
            delta: Delta {
                number: delta.map_or(0, |d| d.number),
                base: base.card.version.clone(),
                ..Delta::default()
            },
            base,
            weights: BTreeMap::new(),
        };
        if let Some(delta) = delta.filter(|delta| delta.base == learning.base.card.version) {
            learning.take(delta);
        }
        learning
    }

    /// What was learnt until `delta`; its number stays behind.
    pub fn take(&mut self, delta: &Delta) {
        self.weights = delta.weights.iter().map(|(bucket, steps)| (*bucket, i32::from(*steps))).collect();
        self.delta = Delta { number: self.delta.number, weights: Vec::new(), ..delta.clone() };
    }

    /// As it was trained.
    pub fn forget(&mut self) {
        self.weights.clear();
        self.delta =
            Delta { number: self.delta.number, base: self.base.card.version.clone(), ..Delta::default() };
    }

    /// Learns from what somebody said.
    pub fn learn(&mut self, feedback: &Feedback) -> Outcome {
        if feedback.format != FORMAT || feedback.features.len() != BLOCKS {
            return Outcome::Foreign;
        }
        let probability = self.probability(feedback);
        // Spam is judged rightly when it is well above the threshold.
        let surely_spam = f64::midpoint(f64::from(self.base.card.spam_threshold), 1.0);
        let agreed = if feedback.is_spam { probability >= surely_spam } else { probability <= SURELY_HAM };
        if agreed {
            self.delta.agreed += 1;
            return Outcome::Agreed;
        }
        let error = if feedback.is_spam {
            -(1.0 - probability).max(SMALLEST_MOVE)
        } else {
            probability.max(SMALLEST_MOVE)
        };
        if !self.may_move(feedback, error.abs() as f32) {
            self.delta.capped += 1;
            return Outcome::Capped;
        }
        for (scale, buckets) in blocks(feedback) {
            let steps = -(RATE * error * scale / f64::from(self.base.step())).round() as i32;
            for bucket in buckets {
                let weight = self.weights.entry(*bucket).or_default();
                *weight = (*weight + steps).clamp(-MAX_STEPS, MAX_STEPS);
            }
        }
        self.delta.learnt += 1;
        Outcome::Learnt
    }

    fn may_move(&mut self, feedback: &Feedback, error: f32) -> bool {
        let total: f32 = self.delta.influence.values().sum();
        let own = self.delta.influence.entry(feedback.domain.to_string()).or_default();
        let may = *own + error <= FREE_INFLUENCE.max(MAX_SHARE * (total + error));
        *own += if may { error } else { 0.0 };
        may
    }

    fn probability(&self, feedback: &Feedback) -> f64 {
        let weight = |bucket: &u32| {
            let learnt = self.weights.get(bucket).copied().unwrap_or(0) as f32 * self.base.step();
            f64::from(self.base.weight(*bucket as usize) + learnt)
        };
        let sum: f64 =
            blocks(feedback).map(|(scale, buckets)| scale * buckets.map(weight).sum::<f64>()).sum();
        self.base.card.calibration.probability(self.base.card.bias + sum as f32)
    }

    /// The next version.
    #[must_use]
    pub fn next(&mut self, at: schemas::Timestamp, why: String) -> Delta {
        self.weights.retain(|_, steps| *steps != 0);
        if self.weights.len() > MAX_WEIGHTS {
            let mut sizes: Vec<i32> = self.weights.values().map(|steps| steps.abs()).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let smallest = sizes[MAX_WEIGHTS];
            self.weights.retain(|_, steps| steps.abs() > smallest);
        }
        while self.delta.influence.len() > MAX_DOMAINS {
            let least = self.delta.influence.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(d, _)| d.clone());
            self.delta.influence.remove(&least.unwrap_or_default());
        }
        self.delta.number += 1;
        self.delta.at = at;
        self.delta.why = why;
        let weights = self.weights.iter().map(|(bucket, steps)| (*bucket, *steps as i16)).collect();
        Delta { weights, ..self.delta.clone() }
    }
}

/// The features of each block, with what one of them counts.
fn blocks(feedback: &Feedback) -> impl Iterator<Item = (f64, impl Iterator<Item = &u32>)> {
    feedback.features.iter().map(|buckets| {
        let scale = 1.0 / (buckets.len().max(1) as f64).sqrt();
        // A record may have been written by anybody who can write into the log.
        (scale, buckets.iter().filter(|bucket| (**bucket as usize) < BUCKETS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::{Domain, MessageId, Timestamp};

    fn feedback(domain: &str, is_spam: bool, number: u32) -> Feedback {
        Feedback {
            message_id: MessageId::derived(&format!("{domain} {number}"), Timestamp(5)),
            domain: Domain::parse(domain).unwrap(),
            is_spam,
            by: "test".into(),
            at: Timestamp(5),
            format: FORMAT,
            features: (0..BLOCKS as u32)
                .map(|block| (0..20).map(|at| number * 1000 + block * 20 + at).collect())
                .collect(),
        }
    }

    fn learning() -> Learning {
        Learning::from(Model::shipped().unwrap(), None)
    }

    #[test]
    fn what_was_wrong_is_corrected_and_what_was_right_teaches_nothing() {
        let mut learning = learning();
        let wrong = feedback("a.example", true, 1);
        let before = learning.probability(&wrong);
        let mut outcomes = Vec::new();
        for _ in 0..6 {
            outcomes.push(learning.learn(&wrong));
        }
        assert_eq!((outcomes[0], outcomes[5]), (Outcome::Learnt, Outcome::Agreed), "{outcomes:?}");
        assert!(before < 0.9 && learning.probability(&wrong) > 0.9);
        let delta = learning.next(Timestamp(9), "test".into());
        assert_eq!((delta.number, delta.learnt > 0, delta.agreed > 0), (1, true, true));
        // The same by the model with the delta, and by who goes on from it.
        let again = Learning::from(Model::shipped().unwrap(), Some(&delta));
        assert!((again.probability(&wrong) - learning.probability(&wrong)).abs() < 1e-6);
        let model = Model::shipped().unwrap().with_delta(&delta).unwrap();
        assert!(model.card.version.ends_with("+1"));
        assert!(model.with_delta(&delta).is_none(), "it belongs to the model as it was trained");
    }

    #[test]
    fn nobody_has_more_than_a_share() {
        let mut learning = learning();
        let outcomes: Vec<_> = (0..200).map(|n| learning.learn(&feedback("a.example", true, n))).collect();
        let learnt = outcomes.iter().filter(|o| **o == Outcome::Learnt).count();
        assert!((15..80).contains(&learnt), "{learnt}");
        assert_eq!(outcomes[199], Outcome::Capped);
        assert_eq!(
            learning.learn(&feedback("b.example", true, 300)),
            Outcome::Learnt,
            "others still have theirs"
        );
    }

    #[test]
    fn a_version_stays_below_the_largest_record() {
        let mut learning = learning();
        for number in 0..400 {
            let mut feedback = feedback(&format!("d{number}.example"), true, number);
            feedback.features =
                vec![(0..2000).map(|at| (number * 977 + at * 263) % BUCKETS as u32).collect(); BLOCKS];
            learning.learn(&feedback);
        }
        let delta = learning.next(Timestamp(9), String::new());
        let json = serde_json::to_vec(&schemas::models::ModelRecord::Delta(delta)).unwrap();
        assert!(json.len() < schemas::topics::MAX_VALUE_BYTES, "{}", json.len());
    }

    #[test]
    fn features_of_another_format_are_passed_over() {
        let mut other = feedback("a.example", true, 1);
        other.format += 1;
        assert_eq!(learning().learn(&other), Outcome::Foreign);
        let mut beyond = feedback("a.example", true, 1);
        beyond.features[0] = vec![u32::MAX];
        learning().learn(&beyond);
    }
}
