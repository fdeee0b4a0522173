//! Attempts: one try at one recipient group, with every remote reply.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::envelope::Tls;
use crate::verdict::MessageSummary;
use crate::{Mailbox, SmtpReply, Timestamp};

/// A record of `attempts`, keyed by message id, partitioned by user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one kind in practice
pub enum AttemptEvent {
    Attempt(Attempt),
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Unique: message id, site, try number.
    pub id: String,
    pub message: MessageSummary,
    pub node: String,
    pub site: String,
    /// When the try began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// 1 for the first try.
    pub number: u32,
    pub cause: AttemptCause,
    /// Host name of the server tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Why there was no TLS, or why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_note: Option<String>,
    /// Signatures we added: `d=example.com s=sel a=rsa-sha256`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    pub recipients: Vec<RecipientResult>,
}

/// Why there was an attempt event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptCause {
    /// It was tried.
    Tried,
    /// Its time to retry is over.
    Expired,
    /// An operator removed it.
    Removed,
    #[serde(other)]
    Unknown,
}

/// The egress source that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Absent when the kernel chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    pub ehlo: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientResult {
    /// Index into the recipients of the envelope.
    pub index: u32,
    pub forward_path: Mailbox,
    pub outcome: Outcome,
    /// What the remote server said; or, when `local` is set, what we say in its place.
    pub reply: SmtpReply,
    /// `true` when the reply is ours: no connection, no MX, time over.
    #[serde(default)]
    pub local: bool,
    /// When it is tried again, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
}

/// What came of one recipient in one attempt. All but `Deferred` are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Delivered,
    Deferred,
    Failed,
    Removed,
    #[serde(other)]
    Unknown,
}

impl Outcome {
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Outcome::Delivered | Outcome::Failed | Outcome::Removed)
    }

    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Deferred => "deferred",
            Outcome::Failed => "failed",
            Outcome::Removed => "removed",
            Outcome::Unknown => "unknown",
        }
    }
}
