//! What a log was moved from: one record of `plans`, written before anything else is moved to it and again at the end.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Its record key in `plans`; no plan has such a one.
pub const KEY: &str = "migration";

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The node whose log is moved.
    pub node: String,
    pub state: MigrationState,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationState {
    /// Nobody may work on this log yet.
    Begun,
    Done,
    #[serde(other)]
    Unknown,
}
