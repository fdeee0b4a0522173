//! What crosses the control socket for `POST /v1/whatif`.

use std::collections::BTreeMap;

use control::api::{DiffEntry, SettingsFile};
use schemas::settings::Limits;
use schemas::verdict::{Classification, Identity};
use schemas::{MessageId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// Request of `POST /v1/whatif`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The settings that are tried; absent: those in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<SettingsFile>,
    /// Messages accepted from then on.
    pub since: Timestamp,
    /// Messages named for each user.
    #[serde(default)]
    pub examples: usize,
    /// Judge every message again that is still in the log, and no other.
    #[serde(default)]
    pub rescore: bool,
    /// A model in place of the one in force, in base64; only looked at where messages are judged again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Messages that are read at most.
    pub max_bodies: u64,
    #[serde(default)]
    pub suggest: bool,
}

/// Answer of `POST /v1/whatif`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub since: Timestamp,
    pub until: Timestamp,
    /// How the settings that are tried differ from those in force.
    pub diff: Vec<DiffEntry>,
    /// Settings that differ and of which this cannot say what they would do.
    pub not_tried: Vec<String>,
    pub totals: Totals,
    /// Those of whom something changes, most blocked first.
    pub users: Vec<UserRow>,
    /// Further ones.
    pub users_left_out: usize,
    /// Absent when it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestions: Option<Vec<Suggestion>>,
}

/// Messages, by what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// All of the period but for mail of our own.
    pub messages: u64,
    /// Decided again, from what is stored of them or from the messages themselves.
    pub recomputed: u64,
    /// Of these, those that were judged again.
    pub from_bodies: u64,
    /// Not decided again: what it would take is not stored of them, and the message is gone.
    pub unknown: u64,
    /// The same because enough messages were read already.
    pub not_read: u64,
    /// The same because the version that judged them stored too little.
    pub too_old: u64,
    /// Of users that the settings tried do not have: they could not send at all.
    pub of_users_without_settings: u64,
    pub changes: Changes,
    /// A limit would have kept them back.
    pub over_limit: u64,
}

/// What changes, in messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub unchanged: u64,
    /// By what they would be blocked as.
    pub newly_blocked: BTreeMap<String, u64>,
    /// By what they were blocked as.
    pub newly_passed: BTreeMap<String, u64>,
    /// Delivered as before, as suspect.
    pub newly_suspect: u64,
    /// As before delivered or not, as something else: `clean -> observe_only`.
    pub otherwise: BTreeMap<String, u64>,
    /// Blocked as before, but the client would get a 550 in place of a 250.
    pub newly_550: u64,
    /// And the other way round.
    pub newly_250: u64,
}

/// One outgoing user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserRow {
    pub user: UserId,
    pub messages: u64,
    /// The settings tried do not have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_removed: bool,
    pub changes: Changes,
    pub over_limit: u64,
    pub limits: Vec<LimitHit>,
    pub examples: Vec<Example>,
}

/// A limit that would have kept messages back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitHit {
    /// As in settings.
    pub limit: String,
    pub set_to: u64,
    /// Messages over it.
    pub messages: u64,
    pub first: Timestamp,
    pub first_id: MessageId,
    /// The most that the user wanted to send within the time of the limit.
    pub largest_burst: u64,
}

/// A message that would be something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub id: MessageId,
    pub accepted_at: Timestamp,
    pub identity: Identity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub change: ChangeKind,
    pub was: Classification,
    pub would_be: Classification,
    /// As it was stored.
    pub score: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Blocked,
    Passed,
    Suspect,
    Otherwise,
}

/// What a user sends, and limits that would leave it room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suggestion {
    pub user: UserId,
    pub messages: u64,
    pub paces: Vec<Pace>,
    /// What the user has now, with what is suggested in its place.
    pub limits: Limits,
}

/// How much a user sends within the time of one limit, over the times in which it sends something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// As in settings.
    pub limit: String,
    /// Minutes, hours or days with something sent.
    pub times: u64,
    pub p50: u64,
    pub p99: u64,
    pub p100: u64,
    /// Absent: too little was sent to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<u64>,
    /// Of these times, those with more than is suggested.
    pub over: u64,
}
