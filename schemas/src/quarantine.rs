//! State of a quarantined message: the `quarantine` topic, keyed by user and message id, written by the scorer.

use serde::{Deserialize, Serialize};

use crate::verdict::{MessageSummary, Symbol};
use crate::{Mailbox, MessageId, Position, Timestamp, UserId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineState {
    In,
    Released,
    Confirmed,
    Removed,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRow {
    pub message: MessageSummary,
    pub state: QuarantineState,
    pub recipients: Vec<Mailbox>,
    pub symbols: Vec<Symbol>,
    pub since: Timestamp,
    /// Who moved it to this state; `policy` for the scorer's own decision.
    pub by: String,
    /// Where the message stands, in `quarantined`; the offset grows when the record had to be moved. For the moment
    /// between two commits of the scorer (or until its next start, if it was killed then) still in `accepted`.
    pub position: Position,
}

/// Record key: user, NUL, message id.
#[must_use]
pub fn key(user: &UserId, message_id: MessageId) -> bytes::Bytes {
    format!("{user}\0{message_id}").into()
}
