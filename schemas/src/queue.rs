//! What is still to be delivered: the `queue` topic, one entry per message and site, in the lane of a node.

use serde::{Deserialize, Serialize};

use crate::verdict::MessageSummary;
use crate::{Mailbox, MessageId, Position, SmtpReply, Timestamp};

/// An entry of the queue. When nothing is left to deliver, a tombstone follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueEntry {
    pub message: MessageSummary,
    /// The node that delivers it: its lane.
    pub node: String,
    /// Where the mail goes: the domain of the recipients, or the static route or relay host in its place.
    pub site: String,
    pub recipients: Vec<QueuedRecipient>,
    /// When it was taken into the queue.
    pub queued_at: Timestamp,
    /// Tries so far.
    pub tries: u32,
    /// When it is tried again.
    pub next_attempt: Timestamp,
    /// When it is given up: the user's maximum days to retry after `queued_at`.
    pub expires_at: Timestamp,
    /// An operator's hold: not tried until resumed, and never given up meanwhile.
    #[serde(default)]
    pub held: bool,
    /// The delay notice has gone out.
    #[serde(default)]
    pub delay_notice_sent: bool,
    /// A host that an operator re-routed it to, in place of MX: `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Where the message stands, in `released`.
    pub position: Position,
    /// When it was written there: past half the topic's retention it is written anew.
    #[serde(default)]
    pub stored_at: Timestamp,
    /// When another node put it into this lane, because the sources of its pool are here; absent once the node has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_on_at: Option<Timestamp>,
    /// An operator moved it to this lane: it stays, wherever the sources of its pool are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Index into the recipients of the envelope: the recipient id within the message.
    pub index: u32,
    pub forward_path: Mailbox,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<SmtpReply>,
}

/// Record key: message id, NUL, site. The partition is that of the lane, see [`lane_key`].
#[must_use]
pub fn key(message_id: MessageId, site: &str) -> bytes::Bytes {
    format!("{message_id}\0{site}").into()
}

/// What the partition of a lane is computed from.
#[must_use]
pub fn lane_key(node: &str) -> bytes::Bytes {
    format!("lane\0{node}").into()
}
