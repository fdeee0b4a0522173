//! What ingress refused and why: the `sessions` topic, aggregated per client, reason and minute.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{SmtpReply, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRefusals {
    pub node: String,
    pub client_ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Stable code: `unauthorised`, `too_many_connections`, `auth_failed`, `auth_blocked`, `locked`, `log_unavailable`,
    /// `bare_line_end`, `line_too_long`, `too_many_errors`, `timeout`, `size`, `envelope_too_large`,
    /// `bad_sequence` ...
    pub reason: String,
    /// Start of the minute.
    pub minute: Timestamp,
    pub count: u64,
    /// The last such reply.
    pub reply: SmtpReply,
}
