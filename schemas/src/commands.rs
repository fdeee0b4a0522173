//! What an operator asked for: the `commands` topic. User commands stand in the user's partition, queue commands in
//! the lane's; the owner acts and answers in the partition of `replies` that the command names.

use serde::{Deserialize, Serialize};

use crate::verdict::Identity;
use crate::{Domain, MessageId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Unique; also the record key.
    pub id: String,
    /// Who asked: `root@node1 (cli)`, `policy` ...
    pub by: String,
    pub at: Timestamp,
    /// Where the answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_partition: Option<u32>,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    // for the scorer that owns the user
    Release {
        user: UserId,
        message_id: MessageId,
    },
    Confirm {
        user: UserId,
        message_id: MessageId,
    },
    Remove {
        user: UserId,
        message_id: MessageId,
    },
    /// Locks the identity, or the whole user when there is none.
    Lock {
        user: UserId,
        domain: Domain,
        identity: Option<Identity>,
        until: Option<Timestamp>,
        reason: String,
    },
    Unlock {
        user: UserId,
        domain: Domain,
        identity: Option<Identity>,
        reason: String,
        /// Only the lock that began then, not one that was set since; absent: whichever holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// Begins anew with what counts against the user, or one of its identities: limits, blocks, automatic unlocks,
    /// what became of its recipients.
    Reset {
        user: UserId,
        domain: Domain,
        identity: Option<Identity>,
        reason: String,
    },
    // for the delivery worker that owns the lane
    QueueRetry {
        node: String,
        select: QueueSelect,
    },
    QueueHold {
        node: String,
        select: QueueSelect,
    },
    QueueResume {
        node: String,
        select: QueueSelect,
    },
    QueueRemove {
        node: String,
        select: QueueSelect,
    },
    QueueReroute {
        node: String,
        select: QueueSelect,
        route: String,
    },
    /// Entries were moved into the lane: read it again. Asks for nothing else, so that it also tells who is there.
    LaneRead {
        node: String,
    },
    #[serde(other)]
    Unknown,
}

impl Action {
    /// What the partition of `commands` is computed from.
    #[must_use]
    pub fn partition_key(&self) -> bytes::Bytes {
        match self {
            Action::Release { user, .. }
            | Action::Confirm { user, .. }
            | Action::Remove { user, .. }
            | Action::Lock { user, .. }
            | Action::Unlock { user, .. }
            | Action::Reset { user, .. } => user.0.clone().into(),
            Action::QueueRetry { node, .. }
            | Action::QueueHold { node, .. }
            | Action::QueueResume { node, .. }
            | Action::QueueRemove { node, .. }
            | Action::QueueReroute { node, .. }
            | Action::LaneRead { node } => crate::queue::lane_key(node),
            Action::Unknown => bytes::Bytes::new(),
        }
    }
}

/// Which queue entries: all conditions that are set must hold; with none set, every entry. A condition that is not known here
/// is refused: to pass over it would select more than was meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSelect {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Reverse-path, or `<>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<String>,
    /// A whole forward-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

impl QueueSelect {
    #[must_use]
    pub fn selects(&self, entry: &crate::queue::QueueEntry) -> bool {
        let message = &entry.message;
        self.message_id.is_none_or(|id| id == message.id)
            && self.user.as_ref().is_none_or(|user| *user == message.user)
            && self.domain.as_ref().is_none_or(|domain| *domain == message.domain)
            && self.identity.as_ref().is_none_or(|identity| *identity == message.identity)
            && self.reverse_path.as_ref().is_none_or(|path| {
                let path = if path == "<>" { "" } else { path };
                path == message.reverse_path.to_string()
            })
            && self.recipient.as_ref().is_none_or(|path| {
                entry.recipients.iter().any(|r| r.forward_path.to_string().eq_ignore_ascii_case(path))
            })
            && self.site.as_ref().is_none_or(|site| *site == entry.site)
    }
}
