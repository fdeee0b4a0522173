//! Questions to the store, and their answers.

use schemas::Timestamp;
use serde::{Deserialize, Serialize};

/// Which lines of the message log; all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// Our id, the client's queue id, or a Message-ID.
    pub id: Option<String>,
    pub user: Option<String>,
    pub domain: Option<String>,
    pub identity: Option<String>,
    /// A whole forward-path, or `@domain`.
    pub recipient: Option<String>,
    /// A whole reverse-path, or `<>`.
    pub reverse_path: Option<String>,
    pub classification: Option<String>,
    pub outcome: Option<String>,
    /// Accepted at or after, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Accepted before.
    pub until: Option<i64>,
    /// Lines at most; 100 by default.
    pub limit: Option<u32>,
    /// Also mail of Mailweir itself.
    pub own: bool,
}

/// One recipient's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    pub message_id: String,
    pub recipient: u32,
    pub accepted_at: Timestamp,
    pub at: Timestamp,
    pub user: String,
    pub domain: String,
    pub identity: String,
    pub reverse_path: String,
    pub forward_path: String,
    pub classification: String,
    pub outcome: String,
    pub size_bytes: u64,
    pub tries: u32,
    pub header_message_id: Option<String>,
    pub client_queue_id: Option<String>,
    pub subject: Option<String>,
    pub reply: Option<String>,
    pub remote: Option<String>,
    pub egress: Option<String>,
    pub own: bool,
}

/// Which hours and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StatsFilter {
    pub domain: Option<String>,
    pub user: Option<String>,
    pub identity: Option<String>,
    /// Hours that begin at or after, in milliseconds since 1970.
    pub since: Option<i64>,
    pub until: Option<i64>,
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    #[default]
    Domain,
    User,
    Identity,
    FromDomain,
    Destination,
    Classification,
    Hour,
}

impl Group {
    /// The column of `hourly`.
    #[must_use]
    pub fn column(self) -> &'static str {
        match self {
            Group::Domain => "domain",
            Group::User => "user",
            Group::Identity => "identity",
            Group::FromDomain => "from_domain",
            Group::Destination => "destination",
            Group::Classification => "classification",
            Group::Hour => "hour",
        }
    }
}

/// Sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsLine {
    /// The domain, user ...; an hour as RFC 3339.
    pub group: String,
    pub messages: u64,
    pub recipients: u64,
    pub bytes: u64,
    pub quarantined: u64,
    pub delivered: u64,
    pub failed: u64,
    pub removed: u64,
    pub deferrals: u64,
}
