//! `models`: what people said of judged messages, and what was learnt from it. One partition, so one learner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Domain, MessageId, Timestamp};

/// A record of `models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum ModelRecord {
    /// Somebody released a message, or confirmed that it is spam. Gone once it is learnt from.
    Feedback(Feedback),
    /// A version of what was learnt.
    Delta(Delta),
    /// Somebody wants an earlier version back. Gone once it is done, or refused.
    Rollback { to: u64, by: String, at: Timestamp },
    #[serde(other)]
    Unknown,
}

/// What somebody said of a message, with what the classifier saw in it: the message itself may be gone by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    pub message_id: MessageId,
    /// Whose message it is: the influence of one customer has an end.
    pub domain: Domain,
    pub is_spam: bool,
    pub by: String,
    pub at: Timestamp,
    /// Which features: a model of another format has others.
    pub format: u32,
    /// Numbers of the features, block after block.
    pub features: Vec<Vec<u32>>,
}

/// What was learnt, on top of a model that is never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Grows by one with each version; 0 is the model as it was trained.
    pub number: u64,
    /// Version of the model it belongs to.
    pub base: String,
    pub at: Timestamp,
    /// Why there is this version.
    pub why: String,
    /// Messages learnt from so far, those that had been judged rightly, and those left out because their domain had its share.
    pub learnt: u64,
    #[serde(default)]
    pub agreed: u64,
    #[serde(default)]
    pub capped: u64,
    /// How much each domain has moved: the sum of the errors that it corrected, which fades with time.
    pub influence: BTreeMap<String, f32>,
    /// As of when `influence` is; versions of earlier releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub influence_at: Option<Timestamp>,
    /// Number of a feature, and what is added to its weight, in 1/64 of the model's smallest step.
    pub weights: Vec<(u32, i16)>,
}

/// Keys of rollbacks begin with it.
pub const ROLLBACK: &str = "rollback/";

/// The key of a record.
#[must_use]
pub fn key(record: &ModelRecord) -> String {
    match record {
        ModelRecord::Feedback(feedback) => format!("feedback/{}", feedback.message_id),
        ModelRecord::Delta(delta) => format!("delta/{}", delta.number),
        ModelRecord::Rollback { at, .. } => format!("{ROLLBACK}{}", at.0),
        ModelRecord::Unknown => "unknown".into(),
    }
}

/// Why there is a version that a rollback asked for.
#[must_use]
pub fn rolled_back(to: u64, by: &str) -> String {
    format!("back to {to}, by {by}")
}

/// The versions in `models`, by number.
#[derive(Clone, Debug, Default)]
pub struct ModelsView {
    deltas: BTreeMap<u64, Delta>,
}

impl ModelsView {
    /// Takes one record.
    ///
    /// # Errors
    /// When the value is none of `models`.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), serde_json::Error> {
        match value.map(serde_json::from_slice::<ModelRecord>).transpose()? {
            Some(ModelRecord::Delta(delta)) => {
                self.deltas.insert(delta.number, delta);
            }
            Some(_) => {}
            None => {
                if let Some(number) = std::str::from_utf8(key).ok().and_then(|k| k.strip_prefix("delta/")) {
                    self.deltas.remove(&number.parse().unwrap_or(0));
                }
            }
        }
        Ok(())
    }

    /// The newest version, of whatever model.
    #[must_use]
    pub fn newest(&self) -> Option<&Delta> {
        self.deltas.last_key_value().map(|(_, delta)| delta)
    }

    /// The newest version that belongs to the model `base`, which is in force where that is in use.
    #[must_use]
    pub fn newest_of(&self, base: &str) -> Option<&Delta> {
        self.deltas.values().rev().find(|delta| delta.base == base)
    }

    /// All that are kept, the oldest first.
    pub fn deltas(&self) -> impl DoubleEndedIterator<Item = &Delta> {
        self.deltas.values()
    }
}
