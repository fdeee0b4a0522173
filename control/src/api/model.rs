//! `GET /v1/model`, `POST /v1/model/rollback`: what the content classifier has learnt.

use std::collections::BTreeMap;

use schemas::Timestamp;
use serde::{Deserialize, Serialize};

/// Answer of both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// The oldest first; the last is in force where the model in use is its base.
    pub versions: Vec<ModelVersion>,
    /// How much each domain has moved the newest version: the sum of the errors that it corrected.
    pub influence: BTreeMap<String, f32>,
}

/// One version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelVersion {
    pub number: u64,
    /// The model that it lies on top of.
    pub base: String,
    pub at: Timestamp,
    pub why: String,
    /// Messages learnt from, judged rightly already, and left out because their domain had its share.
    pub learnt: u64,
    pub agreed: u64,
    pub capped: u64,
    /// Weights that differ from the base.
    pub weights: u64,
}

/// Request of `POST /v1/model/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Number of a version; 0: the model as it was trained.
    pub to: u64,
}
