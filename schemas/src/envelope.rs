//! What ingress knows of a message besides its content: the first line of a record of `accepted`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Domain, Mailbox, MessageId, Position, ReversePath, Timestamp, UserId};

/// The envelope of an accepted message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub id: MessageId,
    /// When the final end-of-data arrived.
    pub accepted_at: Timestamp,
    /// The node whose ingress took the message.
    pub node: String,
    /// The partition of `replies` in which the session waits for a verdict; absent when nobody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_partition: Option<u32>,
    pub user: UserId,
    /// The outgoing domain of the user: the administrative bucket.
    pub domain: Domain,
    pub client: Client,
    pub reverse_path: ReversePath,
    pub recipients: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// ENVID as it came, in xtext (RFC 3461 4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    #[serde(default)]
    pub body_type: BodyType,
    #[serde(default)]
    pub smtputf8: bool,
    /// Size of the message in bytes, as it came, after unstuffing.
    pub size_bytes: u64,
    /// Where the message stands when it is too large for this record: positions of its chunks in `bodies`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Position>,
    /// Set on mail that Mailweir itself sends. Such mail is never scored, limited, reported, bounced or counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The client as ingress saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    pub address: SocketAddr,
    /// Argument of EHLO or HELO.
    pub helo: String,
    /// `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA`, `UTF8SMTPSA` ... (RFC 3848, RFC 6531), as written in the trace field.
    pub protocol: String,
    /// The login, when the client used AUTH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Client {
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// What was negotiated on a TLS connection, in the names of the registry (`TLSv1.3`, `TLS13_AES_256_GCM_SHA384`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    pub version: String,
    pub cipher: String,
    /// `true` when the peer's certificate was verified against its name.
    #[serde(default)]
    pub verified: bool,
}

/// One RCPT TO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipient {
    pub forward_path: Mailbox,
    /// NOTIFY (RFC 3461 4.1); absent when the client gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// ORCPT as it came: `rfc822;` and xtext (RFC 3461 4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

/// NOTIFY: all `false` is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    #[serde(default)]
    pub success: bool,
    #[serde(default)]
    pub failure: bool,
    #[serde(default)]
    pub delay: bool,
}

/// RET: how much of the message a DSN returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ret {
    Full,
    Headers,
}

/// BODY (RFC 6152). BINARYMIME is not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyType {
    #[default]
    SevenBit,
    EightBitMime,
}

/// What gave rise to a message of our own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A DSN or delay notice about `message_id`.
    Dsn { message_id: MessageId },
    /// A feedback report about `message_id`.
    FeedbackReport { message_id: MessageId },
    /// A notice to an administrator.
    Notice { event: String },
    #[serde(other)]
    Unknown,
}
