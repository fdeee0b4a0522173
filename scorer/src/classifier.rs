//! The content classifier: what the text, the links and the shape of a message say, as a probability that it is spam.
//!
//! The way of a message: `reading` decodes it (`html`, `words`, `links` take its parts apart), `extract` makes features of
//! it with what `lexicon` knows, `model` weighs them, `fingerprint` keeps what the text is known by again, `explain` says which of them mattered. `training` makes models, `online`
//! corrects one while it is used.

pub mod explain;
pub mod extract;
pub mod features;
pub mod fingerprint;
pub mod html;
pub mod lexicon;
pub mod links;
pub mod model;
pub mod online;
pub mod reading;
pub mod training;
pub mod words;

use crate::facts::Facts;
use explain::Explanation;
use lexicon::Lexicon;
use model::{Model, ModelError};
use schemas::history::Fingerprint;
use schemas::models::Delta;

/// A model with what it needs to score.
#[derive(Debug)]
pub struct Classifier {
    model: Model,
    lexicon: Lexicon,
}

impl Classifier {
    #[must_use]
    pub fn new(model: Model) -> Self {
        Classifier { model, lexicon: Lexicon::new() }
    }

    /// With the model that ships with Mailweir.
    ///
    /// # Errors
    /// Never, but for a binary that was built with a broken model.
    pub fn shipped() -> Result<Self, ModelError> {
        Ok(Classifier::new(Model::shipped()?))
    }

    /// With what was learnt on top of the model; `None` when it was learnt on top of another.
    #[must_use]
    pub fn with_delta(&self, delta: &Delta) -> Option<Self> {
        Some(Classifier::new(self.model.with_delta(delta)?))
    }

    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The features of a message, as they stand in feedback.
    #[must_use]
    pub fn buckets(&self, facts: &Facts<'_>) -> Vec<Vec<u32>> {
        extract::features(facts, &self.lexicon, false).buckets()
    }

    /// The probability that the message is spam.
    #[must_use]
    pub fn probability(&self, facts: &Facts<'_>) -> f64 {
        self.classify(facts).0
    }

    /// The same, and what the text is known by when it comes again; none of a short one.
    #[must_use]
    pub fn classify(&self, facts: &Facts<'_>) -> (f64, Option<Fingerprint>) {
        let features = extract::features(facts, &self.lexicon, false);
        (self.model.card.calibration.probability(self.model.sum(&features)), features.text)
    }

    /// What spoke for spam and what against it, for a person.
    #[must_use]
    pub fn explanation(&self, facts: &Facts<'_>) -> Explanation {
        explain::explanation(&self.model, &extract::features(facts, &self.lexicon, true))
    }

    /// Stands in every verdict.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.model.card.version
    }

    /// From this probability on a message is spam, where the settings say nothing else.
    #[must_use]
    pub fn spam_threshold(&self) -> f32 {
        self.model.card.spam_threshold
    }

    /// From this probability on a message is suspect.
    #[must_use]
    pub fn suspect_threshold(&self) -> f32 {
        self.model.card.suspect_threshold
    }
}
