//! A trained model: what each feature weighs, how a sum of weights becomes a probability, and from which probability on
//! mail is blocked or suspect. A file of half a MiB, read-only once it is trained.

use schemas::models::Delta;
use serde::{Deserialize, Serialize};

use super::features::{BUCKETS, Features, hash};

const MAGIC: &[u8; 4] = b"MWCM";
/// Goes up when features change, since weights stand where the hashes of features say.
pub const FORMAT: u32 = 1;
const MAX_CARD_BYTES: usize = 64 * 1024;
/// Weights stand in the file as whole numbers up to this.
const LARGEST: f32 = 127.0;

/// Steps of a delta in one step of a stored weight, so that what is learnt online can be finer.
const FINE: i16 = 64;

/// The model that ships with Mailweir; `model/README.md` says how it was made.
const SHIPPED: &[u8] = include_bytes!("../../model/default.bin");

/// Why a file is no model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("it is no model of Mailweir's")]
    NoModel,
    #[error("it is a model of format {0}, and this version reads format {FORMAT}: train it again")]
    Format(u32),
    #[error("its description does not parse: {0}")]
    Card(#[from] serde_json::Error),
    #[error("it is {0} bytes long, which is not what a model has")]
    Length(usize),
}

/// What a model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub format: u32,
    /// Stands in every verdict that the model had part in.
    pub version: String,
    pub bias: f32,
    /// What a stored weight of 1 counts.
    pub scale: f32,
    pub calibration: Calibration,
    /// The probability that at most 0.1 % of legitimate mail exceeds.
    pub spam_threshold: f32,
    /// The probability that at most 1 % of legitimate mail exceeds.
    pub suspect_threshold: f32,
    pub seed: u64,
    /// Messages it was trained with.
    pub ham: usize,
    pub spam: usize,
}

/// From a sum of weights to a probability: a logistic function, fitted to messages that were not trained with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub slope: f32,
    pub offset: f32,
}

impl Calibration {
    #[must_use]
    pub fn probability(self, sum: f32) -> f64 {
        let score = f64::from(self.slope) * f64::from(sum) + f64::from(self.offset);
        1.0 / (1.0 + (-score).exp())
    }
}

/// A model, ready to score with.
#[derive(Clone)]
pub struct Model {
    pub card: Card,
    /// In 1/64 of `card.scale`.
    weights: Vec<i16>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Model {
    /// The model that ships with Mailweir.
    ///
    /// # Errors
    /// Never, but for a binary that was built with a broken one.
    pub fn shipped() -> Result<Self, ModelError> {
        Model::decode(SHIPPED)
    }

    /// A model of learnt weights, one for each bucket; `card.scale` and `card.version` are made here.
    #[must_use]
    pub fn of_weights(weights: &[f32], name: &str, mut card: Card) -> Self {
        let largest = weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        card.scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        let weights: Vec<i8> = weights.iter().map(|weight| (weight / card.scale).round() as i8).collect();
        let mut octets: Vec<u8> = weights.iter().map(|weight| weight.to_le_bytes()[0]).collect();
        for part in [card.bias, card.spam_threshold, card.suspect_threshold, card.calibration.slope] {
            octets.extend_from_slice(&part.to_le_bytes());
        }
        card.format = FORMAT;
        card.version = format!("{name}-{:08x}", hash(&octets) >> 32);
        Model { card, weights: weights.into_iter().map(|weight| i16::from(weight) * FINE).collect() }
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(file: &[u8]) -> Result<Self, ModelError> {
        let (magic, rest) = file.split_at_checked(4).ok_or(ModelError::NoModel)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ModelError::NoModel)?;
        let length = u32::from_le_bytes(*length) as usize;
        if magic != MAGIC || length > MAX_CARD_BYTES || length > rest.len() {
            return Err(ModelError::NoModel);
        }
        let (card, weights) = rest.split_at(length);
        let card: Card = serde_json::from_slice(card)?;
        if card.format != FORMAT {
            return Err(ModelError::Format(card.format));
        }
        if weights.len() != BUCKETS {
            return Err(ModelError::Length(file.len()));
        }
        let fine = |octet: &u8| i16::from(i8::from_le_bytes([*octet])) * FINE;
        Ok(Model { card, weights: weights.iter().map(fine).collect() })
    }

    /// This model with what was learnt on top; `None` when the delta belongs to another.
    #[must_use]
    pub fn with_delta(&self, delta: &Delta) -> Option<Self> {
        if delta.base != self.card.version {
            return None;
        }
        let mut model = self.clone();
        for (bucket, steps) in &delta.weights {
            if let Some(weight) = model.weights.get_mut(*bucket as usize) {
                *weight = weight.saturating_add(*steps);
            }
        }
        if delta.number > 0 {
            model.card.version = format!("{}+{}", self.card.version, delta.number);
        }
        Some(model)
    }

    /// # Errors
    /// Never: a card has string keys only.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let card = serde_json::to_vec(&self.card)?;
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&(card.len() as u32).to_le_bytes());
        file.extend_from_slice(&card);
        file.extend(self.weights.iter().map(|weight| (weight / FINE).to_le_bytes()[0]));
        Ok(file)
    }

    #[must_use]
    pub fn weight(&self, bucket: usize) -> f32 {
        f32::from(self.weights[bucket]) * self.step()
    }

    /// What one step of a delta counts.
    #[must_use]
    pub fn step(&self) -> f32 {
        self.card.scale / f32::from(FINE)
    }

    /// What the features weigh together.
    #[must_use]
    pub fn sum(&self, features: &Features) -> f32 {
        let scales = features.scales();
        let of = |feature: &super::features::Feature| {
            f32::from(self.weights[feature.bucket()]) * scales[feature.block as usize]
        };
        self.card.bias + self.step() * features.list().iter().map(of).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_file_is_read_as_it_was_written() {
        let mut weights = vec![0.0; BUCKETS];
        (weights[3], weights[9]) = (2.0, -1.0);
        let calibration = Calibration { slope: 1.0, offset: 0.0 };
        let card = Card {
            format: 0,
            version: String::new(),
            bias: 0.5,
            scale: 0.0,
            calibration,
            spam_threshold: 0.9,
            suspect_threshold: 0.5,
            seed: 1,
            ham: 10,
            spam: 10,
        };
        let model = Model::of_weights(&weights, "test", card);
        let file = model.encode().unwrap();
        assert!(file.len() < 1024 * 1024);
        let read = Model::decode(&file).unwrap();
        assert_eq!(read.card, model.card);
        assert!((read.weight(3) - 2.0).abs() < 0.01 && (read.weight(9) + 1.0).abs() < 0.01);
        assert!(read.card.version.starts_with("test-"));
        for cut in [0, 3, 7, 20, file.len() - 1] {
            assert!(Model::decode(&file[..cut]).is_err(), "{cut}");
        }
        assert!(matches!(Model::decode(b"GIF89a, and some more"), Err(ModelError::NoModel)));
    }

    #[test]
    fn the_shipped_model_can_be_read() {
        let card = Model::shipped().unwrap().card;
        assert!(card.suspect_threshold < card.spam_threshold && card.spam_threshold < 1.0);
    }
}
