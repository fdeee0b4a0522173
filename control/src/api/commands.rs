//! `POST /v1/lock`, `/v1/unlock`, `/v1/quarantine/{release,confirm,remove}`, `/v1/queue/{retry,hold,resume,remove,reroute}`.
//! All answer a [`CommandOutcome`].

use schemas::commands::QueueSelect;
use schemas::{MessageId, Timestamp};
use serde::{Deserialize, Serialize};

/// Request of `POST /v1/lock`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// The range of an IP user (`192.0.2.1` is `192.0.2.1/32`), else its login.
    pub user: String,
    /// Absent: the whole user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Absent: until somebody unlocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u64>,
    pub reason: String,
}

/// Request of `POST /v1/unlock` and `POST /v1/reset`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    #[serde(default)]
    pub reason: String,
}

/// Request of `POST /v1/quarantine/{release,confirm,remove}`: messages by id, or all that `select` selects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message_ids: Vec<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<QuarantineSelect>,
    /// Only count what is selected.
    #[serde(default)]
    pub dry_run: bool,
    /// The count that the person saw; 409 when it is another by now. Required with `select`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// Which quarantined messages: all conditions that are set must hold. Only those that are still in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineSelect {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Code, as `spam`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// Reverse-path, or `<>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<String>,
    /// A whole forward-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Quarantined at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Quarantined before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// Request of `POST /v1/queue/{retry,hold,resume,remove}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueRequest {
    #[serde(default)]
    pub select: QueueSelect,
    /// Only count what is selected.
    #[serde(default)]
    pub dry_run: bool,
    /// The count of entries that the person saw; 409 when it is another by now. Required by `remove` unless a message
    /// id is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// Request of `POST /v1/queue/reroute`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerouteRequest {
    #[serde(default)]
    pub select: QueueSelect,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// `host:port`.
    pub route: String,
}

/// Request of `POST /v1/lane/move`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneMoveRequest {
    /// The node that is gone.
    pub from: String,
    /// The node that delivers in its place.
    pub to: String,
    /// Only count what is in the lane.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// Nothing was done; `matched` is what would be.
    pub dry_run: bool,
    /// Messages, queue entries or senders that were selected.
    pub matched: u64,
    /// Of those, how many were changed. A command that finds nothing left to do affects none.
    pub affected: u64,
    /// Commands that were refused by whoever carries them out.
    pub refused: u64,
    /// Commands that are durably given but not yet confirmed: the worker is behind or down, and will do it.
    pub pending: u64,
    /// For the person, at most 20 lines.
    pub text: Vec<String>,
}
