//! What is known of outgoing users and identities: the `senders` topic, one row each, written by the scorer that owns
//! the user's partition, mirrored by ingress.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::Part;
use crate::limits::{Counters, Distinct, Hashes};
use crate::outcomes::Outcomes;
use crate::verdict::{Classification, Identity, MessageSummary, RemoveField, Symbol};
use crate::{Domain, MessageId, Position, Timestamp, UserId};

/// A lock of an identity or of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub since: Timestamp,
    /// Absent: only a person unlocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub by: String,
    pub reason: String,
}

impl Lock {
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A row of `senders`: a user (no identity) or one of its identities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRow {
    pub user: UserId,
    pub domain: Domain,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Which rule found the identity last.
    #[serde(default)]
    pub identity_source: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Messages, since `first_seen`.
    pub released: u64,
    /// Messages, since `first_seen`.
    pub quarantined: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// What counts against the user's limits; only in the user's own row.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub counters: Counters,
    /// What lately became of the recipients.
    #[serde(default, skip_serializing_if = "Outcomes::is_empty")]
    pub outcomes: Outcomes,
    /// Messages that wait for a limit; only in the user's own row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u32,
    /// When messages blocked as abuse were accepted, since the last lock, oldest first, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_at: Vec<Timestamp>,
    /// The last of them, for whoever is told of the lock, newest last, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<BlockedMessage>,
    /// Locks that ended by themselves since a person unlocked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub automatic_unlocks: u32,
    /// The last locks, newest last, at most 20: what was done, by whom and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lock_history: Vec<LockChange>,
}

/// A message that was blocked as abuse, as evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedMessage {
    pub id: MessageId,
    pub at: Timestamp,
    pub classification: Classification,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The strongest symbols, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One entry of a lock history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockChange {
    pub at: Timestamp,
    pub locked: bool,
    pub by: String,
    pub reason: String,
}

/// A message that waits for a limit of its user to let it through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    pub message: MessageSummary,
    /// How many recipients it has.
    pub recipients: u64,
    /// Which; none in a row of an earlier version.
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    pub recipient_hashes: Hashes,
    pub since: Timestamp,
    /// The limit that was reached, for a person.
    pub why: String,
    pub score: f32,
    /// Without evidence: that stands in the verdict.
    pub symbols: Vec<Symbol>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_fields: Vec<RemoveField>,
    /// Where the message stands: in `accepted`, or in `quarantined` once it has waited for long.
    pub position: Position,
    /// When it was written there.
    pub stored_at: Timestamp,
}

/// The different recipients a user wrote to; there is one where a limit asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientsRow {
    pub distinct: Distinct,
}

/// Record key of the recipients of a user: user, NUL, `recipients`, NUL.
#[must_use]
pub fn recipients_key(user: &UserId) -> bytes::Bytes {
    format!("{user}\0recipients\0").into()
}

/// Record key of a hold: user, NUL, `hold`, NUL, message id.
#[must_use]
pub fn hold_key(user: &UserId, id: MessageId) -> bytes::Bytes {
    format!("{user}\0hold\0{id}").into()
}

/// What a record of `senders` is about, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    User(UserId),
    Identity(UserId, Identity),
    Hold(UserId, MessageId),
    /// How the user or one of its identities behaves.
    History(UserId, Part),
    Recipients(UserId),
}

/// Reads a record key; none for a kind that a newer version wrote.
#[must_use]
pub fn kind_of_key(key: &[u8]) -> Option<Kind> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '\0');
    let (user, kind, sub_id) = (UserId(parts.next()?.into()), parts.next()?, parts.next()?);
    match kind {
        "user" => Some(Kind::User(user)),
        "identity" => Some(Kind::Identity(user, Identity(sub_id.into()))),
        "hold" => Some(Kind::Hold(user, sub_id.parse().ok()?)),
        "recipients" => Some(Kind::Recipients(user)),
        _ => Part::of(kind, sub_id).map(|part| Kind::History(user, part)),
    }
}

/// Record key: user, NUL, `user` or `identity`, NUL, sub-id.
#[must_use]
pub fn key(user: &UserId, identity: Option<&Identity>) -> bytes::Bytes {
    match identity {
        None => format!("{user}\0user\0").into(),
        Some(identity) => format!("{user}\0identity\0{identity}").into(),
    }
}

/// All rows, folded from the topic, but for those of how senders behave: only the scorer that owns the user needs them.
#[derive(Clone, Debug, Default)]
pub struct SendersView {
    rows: BTreeMap<Bytes, SenderRow>,
    holds: BTreeMap<Bytes, HoldRow>,
    recipients: BTreeMap<Bytes, RecipientsRow>,
}

impl SendersView {
    /// Takes one record of `senders`.
    ///
    /// # Errors
    /// When the value is no row.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), serde_json::Error> {
        match (kind_of_key(key), value) {
            (Some(Kind::Hold(..)), Some(value)) => {
                self.holds.insert(Bytes::copy_from_slice(key), serde_json::from_slice(value)?);
            }
            (Some(Kind::Recipients(_)), Some(value)) => {
                self.recipients.insert(Bytes::copy_from_slice(key), serde_json::from_slice(value)?);
            }
            (Some(Kind::User(_) | Kind::Identity(..)), Some(value)) => {
                self.rows.insert(Bytes::copy_from_slice(key), serde_json::from_slice(value)?);
            }
            (_, None) => {
                self.rows.remove(key);
                self.holds.remove(key);
                self.recipients.remove(key);
            }
            // A kind that a newer version wrote.
            (Some(Kind::History(..)) | None, Some(_)) => {}
        }
        Ok(())
    }

    #[must_use]
    pub fn get(&self, user: &UserId, identity: Option<&Identity>) -> Option<&SenderRow> {
        self.rows.get(&key(user, identity))
    }

    /// The different recipients of a user, where they are counted.
    #[must_use]
    pub fn recipients(&self, user: &UserId) -> Option<&Distinct> {
        self.recipients.get(&recipients_key(user)).map(|row| &row.distinct)
    }

    /// The lock that holds now: of the user, else of the identity.
    #[must_use]
    pub fn lock(&self, user: &UserId, identity: Option<&Identity>, now: Timestamp) -> Option<&Lock> {
        let holds = |row: Option<&'_ SenderRow>| {
            row.is_some_and(|r| r.lock.as_ref().is_some_and(|l| l.holds_at(now)))
        };
        let of_user = self.get(user, None);
        if holds(of_user) {
            return of_user.and_then(|row| row.lock.as_ref());
        }
        let of_identity = identity.and_then(|identity| self.get(user, Some(identity)));
        if holds(of_identity) { of_identity.and_then(|row| row.lock.as_ref()) } else { None }
    }

    pub fn rows(&self) -> impl Iterator<Item = &SenderRow> {
        self.rows.values()
    }

    /// The hold of a message; looks through all of them.
    #[must_use]
    pub fn hold(&self, id: MessageId) -> Option<&HoldRow> {
        self.holds().find(|row| row.message.id == id)
    }

    /// Messages that wait for a limit, by user and age.
    pub fn holds(&self) -> impl Iterator<Item = &HoldRow> {
        self.holds.values()
    }
}
