//! The queries: `GET /v1/queue`, `/v1/quarantine`, `/v1/identities`, `/v1/status`; and `POST /v1/queue/export`,
//! `/v1/backup`, which write directories.

use std::path::PathBuf;

use schemas::envelope::Envelope;
use schemas::quarantine::QuarantineRow;
use schemas::queue::QueueEntry;
use schemas::senders::{HoldRow, SenderRow};
use schemas::verdict::Symbol;
use schemas::{EnhancedCode, Timestamp, Topic};
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/queue`. Parameters: `message_id`, `user`, `domain`, `identity`, `reverse_path`, `recipient`,
/// `site`, `node`, `held` (`true`, `false`), `limit` (100, at most 1000), `offset`. Sorted by next attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueAnswer {
    pub entries: Vec<QueueEntry>,
    /// How many match, whatever the limit.
    pub total: u64,
    /// Recipients in all that match.
    pub recipients: u64,
    /// By site and reason, the largest first, over all that match; at most 1000.
    pub totals: Vec<QueueTotal>,
}

/// Recipients of one site that wait for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueTotal {
    pub site: String,
    /// Reply code of the last reply; absent when there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<EnhancedCode>,
    /// One such reply, on one line.
    pub example: String,
    pub recipients: u64,
    pub oldest: Timestamp,
    pub next_attempt: Timestamp,
}

/// Answer of `GET /v1/quarantine`, newest first. Parameters: `user`, `domain`, `identity`, `classification`,
/// `reverse_path`, `recipient`, `since`, `before` (`10m`, `7d` or an RFC 3339 time), `state` (`in`, the default,
/// `released`, `confirmed`, `removed`, `all`), `limit` (100, at most 1000), `offset`. Evidence is cut to 200 characters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantineAnswer {
    pub messages: Vec<QuarantineRow>,
    pub total: u64,
}

/// Answer of `GET /v1/quarantine/{id}`. The message itself is at `GET /v1/quarantine/{id}/eml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantineDetails {
    pub row: QuarantineRow,
    pub envelope: Envelope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// With their whole evidence.
    pub symbols: Vec<Symbol>,
    /// What the classification means, for a person.
    pub explanation: String,
}

/// Answer of `GET /v1/identities`. Parameters: `since` (`10m`; absent: all), `user`, `limit` (1000), `offset`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentitiesAnswer {
    /// The users that match, with their locks that hold.
    pub users: Vec<SenderRow>,
    /// Last seen first. Counts are since `first_seen`; a lock is given only while it holds.
    pub identities: Vec<SenderRow>,
    /// How many identities match, whatever the limit.
    pub total: u64,
    /// By the rule that found them, the most messages first.
    pub coverage: Vec<Coverage>,
}

/// Answer of `GET /v1/held`. Parameters: `user`, `limit` (1000), `offset`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldAnswer {
    /// What waits for a limit, by user, oldest first.
    pub rows: Vec<HoldRow>,
    /// How many wait, whatever the limit.
    pub total: u64,
}

/// How many identities and messages one rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// `header:X-AuthUser`, `received`, `envelope`, `user` ...
    pub identity_source: String,
    pub identities: u64,
    pub messages: u64,
}

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusAnswer {
    pub node: String,
    /// Version of Mailweir.
    pub version: String,
    /// Whether the log takes new mail.
    pub accepting: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub settings_version: Option<u64>,
    pub cluster_key: String,
    pub views: Vec<ViewStatus>,
    pub lag: Vec<GroupLag>,
    /// Entries of all lanes.
    pub queue_entries: u64,
    pub queue_recipients: u64,
    /// When the oldest of them was taken into the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_oldest: Option<Timestamp>,
    /// Nodes whose lanes nobody works on although messages wait there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unattended_lanes: Vec<String>,
    /// Messages that are in quarantine.
    pub quarantined: u64,
}

/// How far a view has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViewStatus {
    pub name: String,
    pub caught_up: bool,
    pub records: u64,
}

/// Records that a group has still to take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupLag {
    pub group: String,
    pub topic: Topic,
    /// Absent when the log cannot tell now.
    pub records: Option<u64>,
}

/// Request of `POST /v1/queue/export` and `POST /v1/backup`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRequest {
    /// An absolute path on the node; made when it is not there, refused when it is not empty.
    pub dir: PathBuf,
}

/// Answer of `POST /v1/queue/export`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportAnswer {
    pub dir: PathBuf,
    /// Entries written: each as `NAME.eml` and `NAME.json`.
    pub written: u64,
    /// Entries whose message could not be read, with the reason; at most 100.
    pub failed: Vec<String>,
}

/// Answer of `POST /v1/backup`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupAnswer {
    pub dir: PathBuf,
}
