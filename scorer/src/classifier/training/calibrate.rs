//! From sums of weights to probabilities, and the two points that are published with a model.

use super::learner::sigmoid;
use super::measure::threshold;
use crate::classifier::model::Calibration;

const STEPS: usize = 100;
/// Kinds of mail with fewer messages than this have no say of their own in the points.
const MIN_CORPUS: usize = 100;

/// A message scored by a model that did not see it.
#[derive(Clone, Debug)]
pub struct Scored {
    pub sum: f32,
    pub is_spam: bool,
    pub corpus: String,
}

/// Fits slope and offset to the scores (Platt's method, with his smoothed targets, by Newton's steps).
#[must_use]
pub fn fit(scored: &[Scored]) -> Calibration {
    let spam = scored.iter().filter(|s| s.is_spam).count() as f64;
    let ham = scored.len() as f64 - spam;
    let (target_spam, target_ham) = ((spam + 1.0) / (spam + 2.0), 1.0 / (ham + 2.0));
    let (mut slope, mut offset) = (1.0f64, 0.0f64);
    for _ in 0..STEPS {
        // Gradient, and the Hessian with a little on its diagonal so that it can be inverted.
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
        for s in scored {
            let x = f64::from(s.sum);
            let p = f64::from(sigmoid((slope * x + offset) as f32));
            let error = p - if s.is_spam { target_spam } else { target_ham };
            let curve = p * (1.0 - p);
            g0 += error * x;
            g1 += error;
            h00 += curve * x * x;
            h01 += curve * x;
            h11 += curve;
        }
        let determinant = h00 * h11 - h01 * h01;
        let (step0, step1) = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
        slope -= step0.clamp(-1.0, 1.0);
        offset -= step1.clamp(-5.0, 5.0);
        if step0.abs() < 1e-7 && step1.abs() < 1e-7 {
            break;
        }
    }
    // A model that tells nothing apart must not turn spam into ham.
    Calibration { slope: slope.max(1e-3) as f32, offset: offset as f32 }
}

/// The probability that at most `rate` of the ham exceeds, and at most `rate_of_one` of each corpus: an overall rate hides the
/// one kind of mail that is always flagged.
#[must_use]
pub fn operating_point(scored: &[Scored], calibration: Calibration, rate: f64, rate_of_one: f64) -> f32 {
    let mut corpora: Vec<&str> = scored.iter().map(|s| s.corpus.as_str()).collect();
    corpora.sort_unstable();
    corpora.dedup();
    let ham_of = |is_in: &dyn Fn(&str) -> bool| {
        let mut sums: Vec<f32> =
            scored.iter().filter(|s| !s.is_spam && is_in(&s.corpus)).map(|s| s.sum).collect();
        sums.sort_by(f32::total_cmp);
        sums
    };
    let mut sum = threshold(&ham_of(&|_| true), rate);
    for corpus in corpora {
        let ham = ham_of(&|c| c == corpus);
        if ham.len() >= MIN_CORPUS {
            sum = sum.max(threshold(&ham, rate_of_one));
        }
    }
    // The score must be above the threshold to be flagged, but settings say "from this on".
    (calibration.probability(sum) as f32).next_up().clamp(1e-6, 1.0 - f32::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(n: usize) -> Vec<Scored> {
        // Sums whose true probability is known: of ten messages with the same sum, that many are spam.
        (0..n)
            .flat_map(|i| {
                let probability = (i % 10) as f32 / 10.0 + 0.05;
                let sum = (probability / (1.0 - probability)).ln() / 2.0 + 1.0;
                (0..20).map(move |k| Scored {
                    sum,
                    is_spam: (k as f32) < probability * 20.0,
                    corpus: "a".into(),
                })
            })
            .collect()
    }

    #[test]
    fn probabilities_come_back() {
        let calibration = fit(&scored(100));
        assert!(
            (calibration.slope - 2.0).abs() < 0.1 && (calibration.offset + 2.0).abs() < 0.2,
            "{calibration:?}"
        );
    }

    #[test]
    fn a_point_holds_for_each_corpus() {
        let mut all: Vec<Scored> =
            (0..2000).map(|i| Scored { sum: -(i as f32), is_spam: false, corpus: "many".into() }).collect();
        all.extend((0..200).map(|i| Scored { sum: i as f32, is_spam: false, corpus: "few".into() }));
        let calibration = Calibration { slope: 0.01, offset: 0.0 };
        let point = operating_point(&all, calibration, 0.001, 0.01);
        let flagged = all
            .iter()
            .filter(|s| s.corpus == "few" && calibration.probability(s.sum) as f32 >= point)
            .count();
        assert!(flagged <= 2, "{flagged}");
    }
}
