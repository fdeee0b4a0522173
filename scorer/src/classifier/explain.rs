//! Why a score is what it is, in words.

use std::fmt::Write as _;

use super::features::Features;
use super::model::Model;

/// Findings told for spam, and against it.
const MOST_FOR: usize = 7;
const MOST_AGAINST: usize = 2;

/// Said by `extract::traits` of who uses a name that he does not own.
pub(super) const IMPOSTOR: &str = "uses the name of somebody else";
/// What somebody who does so is after when he wants credentials or money: meanings of the lexicon.
const AFTER_CREDENTIALS: [&str; 7] = [
    "asks to verify an account",
    "says an account is limited or at risk",
    "speaks of unusual activity",
    "speaks of a password",
    "speaks of a mailbox",
    "speaks of a payment that failed",
    "speaks of tax or authorities",
];

/// Why a score is what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What spoke most for spam, and what against it.
    pub text: String,
    /// Somebody writes in another's name and is after credentials; with what he speaks of.
    pub phishing: Option<String>,
}

/// `features` must be named.
pub(super) fn explanation(model: &Model, features: &Features) -> Explanation {
    Explanation { text: weighed(model, features), phishing: phishing(features) }
}

fn phishing(features: &Features) -> Option<String> {
    let says = |text: &str| features.named().any(|(_, says)| says == text);
    if !says(IMPOSTOR) {
        return None;
    }
    let after =
        AFTER_CREDENTIALS.iter().filter(|meaning| says(&format!("in somebody else's name {meaning}")));
    let after: Vec<&str> = after.copied().collect();
    (!after.is_empty()).then(|| format!("{IMPOSTOR}; {}", after.join("; ")))
}

/// The features that weighed most, with what each added to the sum.
fn weighed(model: &Model, features: &Features) -> String {
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
