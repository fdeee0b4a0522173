//! Why a score is what it is, in words.

use std::fmt::Write as _;

use super::features::Features;
use super::model::Model;

/// Findings told for spam, and against it.
const MOST_FOR: usize = 7;
const MOST_AGAINST: usize = 2;

/// The features that weighed most, with what each added to the sum. `features` must be named.
pub(super) fn explanation(model: &Model, features: &Features) -> String {
    let scales = features.scales();
    let mut weighed: Vec<(f32, &str)> = features
        .named()
        .map(|(feature, says)| (model.weight(feature.bucket()) * scales[feature.block as usize], says))
        .collect();
    weighed.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut told = String::new();
    for (weight, says) in weighed.iter().take(MOST_FOR).take_while(|(weight, _)| *weight > 0.0) {
        let _ = write!(told, "{}{says} +{weight:.2}", if told.is_empty() { "" } else { "; " });
    }
    for (weight, says) in weighed.iter().rev().take(MOST_AGAINST).take_while(|(weight, _)| *weight < 0.0) {
        let _ = write!(told, "; {says} {weight:.2}");
    }
    told
}
