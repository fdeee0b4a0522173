//! Learning while in use: each time somebody says that a verdict was wrong, the weights of what was seen in the message move a
//! little. What is learnt lies on top of the trained model, which is never changed.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::Timestamp;
use schemas::models::{Delta, Feedback, ModelsView};

use super::features::{BLOCKS, BUCKETS, Block};
use super::model::{FORMAT, Model};

/// Legitimate mail that was thought spam with at most this probability teaches nothing.
const SURELY_HAM: f64 = 0.1;
/// Whatever is learnt counts at least as much as this error: spam that a person had to confirm just below the threshold is
/// missed as surely as any other.
const SMALLEST_MOVE: f64 = 0.3;
/// How far one message moves the sum by each block, times its error. What the words say together, whereto links lead and what
/// the subject is: another message hardly has it in common.
const RATES: [(Block, f64); 3] = [(Block::Subject, 1.0), (Block::Pairs, 2.0), (Block::Links, 1.0)];
/// The same for all other blocks, which everybody's mail has in common.
const SHARED_RATE: f64 = 0.5;
/// Of the three, only features move that the trained model has nothing to say of, which are the rare ones: a weight of at most one
/// stored step. They move for all of their block.
const SAYS_NOTHING: f32 = 1.0;
/// Where fewer than this share of the features of a block may move, they move for a part of it.
const SMALLEST_SHARE: f64 = 0.2;
/// A domain may correct this much at a time, and the shared blocks move with the first of it only: what one says is no matter for
/// everybody's mail, what many say is.
const MAX_INFLUENCE: f32 = 10.0;
const SHARED_INFLUENCE: f32 = 0.07;
/// Influence that a domain has had halves in this time, so that it can always learn on.
const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Influence that is forgotten.
const SMALLEST_INFLUENCE: f32 = 0.001;
/// Weights of one version, so that its record stays below the maximum; the smallest go first.
const MAX_WEIGHTS: usize = 40_000;
/// No weight moves further than this, in steps.
const MAX_STEPS: i32 = 8_000;
/// Of the domains remembered by name, for the same; those with the least influence go first.
const MAX_INFLUENCE_BYTES: usize = 256 * 1024;
/// What stands beside the name of one.
const BESIDE_NAME_BYTES: usize = 24;

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
    /// Goes on from the newest version that belongs to `base`; from nothing when there is none. Numbers go on in any case.
    #[must_use]
    pub fn going_on(base: Model, versions: &ModelsView) -> Self {
        let newest = versions.newest_of(&base.card.version);
        let mut learning = Learning::from(base, newest);
        learning.delta.number = versions.newest().map_or(0, |delta| delta.number);
        learning
    }

    /// The model that all of this is learnt on top of.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base.card.version
    }

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
        self.age(feedback.at);
        let Some(shared) = self.use_influence(feedback, error.abs() as f32) else {
            self.delta.capped += 1;
            return Outcome::Capped;
        };
        for (block, (scale, buckets)) in blocks(feedback).enumerate() {
            if let Some((_, rate)) = RATES.iter().find(|(own, _)| *own as usize == block) {
                let says_nothing = |bucket: &&u32| self.says_nothing(**bucket);
                let (free, others): (Vec<&u32>, Vec<&u32>) = buckets.partition(says_nothing);
                let share = free.len() as f64 / (free.len() + others.len()).max(1) as f64;
                self.shift(&free, -rate * error * scale / share.max(SMALLEST_SHARE));
            } else {
                self.shift(&buckets.collect::<Vec<_>>(), -SHARED_RATE * shared * error * scale);
            }
        }
        self.delta.learnt += 1;
        Outcome::Learnt
    }

    fn says_nothing(&self, bucket: u32) -> bool {
        self.base.weight(bucket as usize).abs() <= (SAYS_NOTHING + 0.5) * self.base.card.scale
    }

    fn shift(&mut self, buckets: &[&u32], by: f64) {
        let steps = (by / f64::from(self.base.step())).round() as i32;
        for bucket in buckets {
            let weight = self.weights.entry(**bucket).or_default();
            *weight = (*weight + steps).clamp(-MAX_STEPS, MAX_STEPS);
        }
    }

    /// Lets influence fade until `at`.
    fn age(&mut self, at: Timestamp) {
        // Versions of earlier releases do not say.
        let since = *self.delta.influence_at.get_or_insert(self.delta.at.max(Timestamp(1)));
        if at > since {
            let left = 0.5f32.powf(at.since(since).as_secs_f32() / HALF_LIFE.as_secs_f32());
            self.delta.influence.values_mut().for_each(|own| *own *= left);
            self.delta.influence.retain(|_, own| *own >= SMALLEST_INFLUENCE);
            self.delta.influence_at = Some(at);
        }
    }

    /// Counts what a domain corrects. How much of it may move what all have in common, from 0 to 1; `None` when the domain has
    /// had its share.
    fn use_influence(&mut self, feedback: &Feedback, error: f32) -> Option<f64> {
        let own = self.delta.influence.get(feedback.domain.as_str()).copied().unwrap_or_default();
        if own + error > MAX_INFLUENCE {
            return None;
        }
        self.delta.influence.insert(feedback.domain.to_string(), own + error);
        Some(f64::from(((SHARED_INFLUENCE - own).max(0.0) / error).min(1.0)))
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
        self.forget_smallest_influence();
        self.delta.number += 1;
        self.delta.at = at;
        self.delta.why = why;
        let weights = self.weights.iter().map(|(bucket, steps)| (*bucket, *steps as i16)).collect();
        Delta { weights, ..self.delta.clone() }
    }

    fn forget_smallest_influence(&mut self) {
        let mut domains: Vec<(f32, String)> =
            self.delta.influence.iter().map(|(domain, own)| (*own, domain.clone())).collect();
        domains.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let mut bytes = 0;
        for (_, domain) in domains {
            bytes += domain.len() + BESIDE_NAME_BYTES;
            if bytes > MAX_INFLUENCE_BYTES {
                self.delta.influence.remove(&domain);
            }
        }
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
    use crate::classifier::lexicon::Lexicon;
    use crate::classifier::training::invented;
    use crate::score_file::features_of;
    use schemas::{Domain, MessageId};

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
    fn nobody_has_more_than_a_share_at_a_time() {
        let mut learning = learning();
        let outcomes: Vec<_> = (0..200).map(|n| learning.learn(&feedback("a.example", true, n))).collect();
        let learnt = outcomes.iter().filter(|o| **o == Outcome::Learnt).count();
        assert!((10..40).contains(&learnt), "{learnt}");
        assert_eq!(outcomes[199], Outcome::Capped);
        let other = learning.learn(&feedback("b.example", true, 300));
        assert_eq!(other, Outcome::Learnt, "others still have theirs");
        // And it learns on as time goes by, also from a version of an earlier release.
        let mut delta = learning.next(Timestamp(9), String::new());
        assert_eq!(delta.influence_at, Some(Timestamp(5)));
        let later = |learning: &mut Learning, days: i64| {
            let mut feedback = feedback("a.example", true, 400);
            feedback.at = Timestamp(days * 24 * 3_600_000);
            learning.learn(&feedback)
        };
        assert_eq!(later(&mut learning, 0), Outcome::Capped);
        assert_eq!(later(&mut learning, 30), Outcome::Learnt);
        assert!(learning.delta.influence["a.example"] < 6.5, "{:?}", learning.delta.influence);
        delta.influence_at = None;
        let mut again = Learning::from(Model::shipped().unwrap(), Some(&delta));
        assert_eq!(later(&mut again, 30), Outcome::Learnt);
        // What was all but nothing is no longer remembered.
        let _ = later(&mut again, 1000);
        assert_eq!(again.delta.influence.len(), 1);
    }

    /// The features of a message, block after block.
    type Buckets = Vec<Vec<u32>>;

    /// Messages that we invented, other ones than the shipped model was trained with; first the spam.
    fn invented() -> (Vec<Buckets>, Vec<Buckets>) {
        let lexicon = Lexicon::new();
        let (mut spam, mut ham) = (Vec::new(), Vec::new());
        for invented in invented::messages(500, 4711, &lexicon) {
            let of_kind = if invented.is_spam { &mut spam } else { &mut ham };
            of_kind.push(features_of(invented.message.as_bytes(), &lexicon).buckets());
        }
        (spam, ham)
    }

    /// Of these, in percent, as many are spam at the threshold.
    fn flagged(learning: &Learning, messages: &[Buckets]) -> f64 {
        let is_spam = |features: &&Buckets| {
            let feedback = Feedback { features: (*features).clone(), ..feedback("a.example", true, 1) };
            learning.probability(&feedback) > f64::from(learning.base.card.spam_threshold)
        };
        100.0 * messages.iter().filter(is_spam).count() as f64 / messages.len() as f64
    }

    #[test]
    fn what_one_domain_says_wrongly_costs_the_others_little() {
        let (spam, ham) = invented();
        for count in [5, 20] {
            let (wrong, spam) = spam.split_at(count);
            let (honest, ham) = ham.split_at(count);
            for (said, is_spam) in [(wrong, false), (honest, true)] {
                let mut learning = learning();
                let (recall, raised) = (flagged(&learning, spam), flagged(&learning, ham));
                for features in said {
                    let features = features.clone();
                    let outcome = learning.learn(&Feedback { features, ..feedback("a.example", is_spam, 1) });
                    assert!(matches!(outcome, Outcome::Learnt | Outcome::Capped), "{outcome:?}");
                }
                let (recall_after, raised_after) = (flagged(&learning, spam), flagged(&learning, ham));
                let says = format!("{count}: {recall} to {recall_after} %, {raised} to {raised_after} %");
                // These are few texts again and again, so some of the rest is of the kind that was spoken of.
                assert!(recall_after >= recall - 6.0 && raised_after <= raised + 0.5, "{says}");
            }
        }
    }

    #[test]
    fn what_many_say_moves_everybodys_mail() {
        let mut learning = learning();
        let said = |domain: usize| {
            let mut feedback = feedback(&format!("d{domain}.example"), true, domain as u32);
            feedback.features[Block::Header as usize] = vec![7, 8, 9];
            feedback
        };
        let unseen = Feedback {
            features: said(1).features.into_iter().take(1).chain(vec![Vec::new(); BLOCKS - 1]).collect(),
            ..said(1)
        };
        let before = learning.probability(&unseen);
        for _ in 0..6 {
            let mut same = said(1);
            same.features[Block::Pairs as usize].clear();
            let _ = learning.learn(&same);
        }
        let of_one = learning.probability(&unseen) - before;
        for domain in 2..60 {
            let _ = learning.learn(&said(domain));
        }
        let of_many = learning.probability(&unseen) - before;
        assert!(of_one < 0.03 && of_many > 0.2, "{of_one} {of_many}");
    }

    #[test]
    fn nearly_the_same_message_passes_after_two_releases() {
        let message = |name: &str, number: usize| {
            let text = format!(
                "From: PayPal Support <info@turnips.xyz>\nTo: {name}@b.example\nSubject: Congratulations {name}, you won gift {number}\n\
                 Content-Type: text/html\n\n<p>Dear {name},</p><p>wobbly turnips parade its yearly tombola, prize {number} was drawn, and \
                 your account has been suspended. Verify your identity within 24 hours and claim your free gift card, \
                 <a href=\"http://tombola.turnips.xyz/claim/{number}\">click here now</a></p>\
                 <p>Wobbly turnips greet every pumpkin in Lower Marrowshire.</p>\n"
            );
            let features = features_of(text.as_bytes(), &Lexicon::new()).buckets();
            Feedback { features, ..feedback("turnips.example", false, 1) }
        };
        let mut learning = learning();
        let threshold = f64::from(learning.base.card.spam_threshold);
        let unseen = message("olga", 711);
        assert!(learning.probability(&unseen) > threshold, "{}", learning.probability(&unseen));
        for (name, number) in [("paul", 12), ("anna", 345)] {
            let _ = learning.learn(&message(name, number));
        }
        assert!(learning.probability(&unseen) < threshold, "{}", learning.probability(&unseen));
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
        // As many domains with names as long as can be.
        for number in 0..5000 {
            let name = format!("{number:05}.{}example", format!("{}.", "a".repeat(59)).repeat(4));
            learning.delta.influence.insert(name, 1.234_567_8 + number as f32 * 1e-4);
        }
        let delta = learning.next(Timestamp(9), String::new());
        assert!(delta.influence.keys().any(|name| name.starts_with("04999.")), "the largest stay");
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
