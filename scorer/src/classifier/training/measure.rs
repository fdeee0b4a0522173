//! How good scores are.

/// What scores say of themselves, against the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    pub ham: usize,
    pub spam: usize,
    /// 1 - area under the ROC curve.
    pub one_minus_auc: f64,
    /// Share of spam above the threshold that at most 0.1 % of ham exceeds.
    pub recall_at_tenth_percent: f64,
    pub recall_at_one_percent: f64,
}

/// Measures `scores`: (score, is spam). Ties count half for the area and as flagged for the thresholds.
#[must_use]
pub fn measure(scores: &[(f32, bool)]) -> Measures {
    let mut ham: Vec<f32> = scores.iter().filter(|(_, is_spam)| !is_spam).map(|(score, _)| *score).collect();
    let mut spam: Vec<f32> = scores.iter().filter(|(_, is_spam)| *is_spam).map(|(score, _)| *score).collect();
    ham.sort_by(f32::total_cmp);
    spam.sort_by(f32::total_cmp);
    let mut area = 0.0;
    for score in &spam {
        let below = ham.partition_point(|h| h < score);
        let equal = ham.partition_point(|h| h <= score) - below;
        area += below as f64 + equal as f64 / 2.0;
    }
    let pairs = (ham.len() * spam.len()).max(1) as f64;
    let recall = |rate| {
        let threshold = threshold(&ham, rate);
        (spam.len() - spam.partition_point(|s| *s <= threshold)) as f64 / spam.len().max(1) as f64
    };
    Measures {
        ham: ham.len(),
        spam: spam.len(),
        one_minus_auc: 1.0 - area / pairs,
        recall_at_tenth_percent: recall(0.001),
        recall_at_one_percent: recall(0.01),
    }
}

/// The score that at most `rate` of `ham` (sorted) exceed.
#[must_use]
pub fn threshold(ham: &[f32], rate: f64) -> f32 {
    let allowed = (rate * ham.len() as f64 + 1e-9) as usize;
    ham.len().checked_sub(allowed + 1).map_or(f32::NEG_INFINITY, |at| ham[at])
}

/// How far probabilities are off, on average (expected calibration error over ten bins).
#[must_use]
pub fn calibration_error(scores: &[(f32, bool)]) -> f64 {
    let mut bins = [(0usize, 0.0f64, 0usize); 10];
    for (probability, is_spam) in scores {
        let bin = &mut bins[((probability * 10.0) as usize).min(9)];
        bin.0 += 1;
        bin.1 += f64::from(*probability);
        bin.2 += usize::from(*is_spam);
    }
    let off: f64 = bins.iter().map(|(_, sum, spam)| (sum - *spam as f64).abs()).sum();
    off / scores.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_of_the_definition() {
        let perfect: Vec<_> = (0..2000).map(|i| (i as f32, i >= 1000)).collect();
        let measures = measure(&perfect);
        assert!(
            measures.one_minus_auc.abs() < 1e-12 && (measures.recall_at_tenth_percent - 1.0).abs() < 1e-12
        );
        let same = [(0.5, true), (0.5, false)];
        assert!((measure(&same).one_minus_auc - 0.5).abs() < 1e-12);
        assert!(measure(&same).recall_at_one_percent.abs() < 1e-12);
        assert!((calibration_error(&[(1.0, true), (0.0, false)])).abs() < 1e-12);
        assert!((calibration_error(&[(1.0, false), (0.0, true)]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn thresholds_leave_as_much_ham_as_allowed() {
        let ham: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        assert_eq!(threshold(&ham, 0.001), 998.0);
        assert_eq!(threshold(&ham, 0.0), 999.0);
    }
}
