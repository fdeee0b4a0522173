//! The records of `settings` and `changes`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::UserSettings;
use crate::{Domain, Timestamp, UserId};

/// A record of `settings`, keyed by kind and id (see [`Setting::key`]); a tombstone removes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // settings are few and rarely moved
pub enum Setting {
    Defaults {
        settings: UserSettings,
    },
    Domain(DomainSettings),
    OutgoingUser(OutgoingUser),
    EgressSource(EgressSource),
    EgressPool(EgressPool),
    DkimKey(DkimKey),
    Route(StaticRoute),
    #[serde(other)]
    Unknown,
}

impl Setting {
    /// `kind/id`, unique and stable.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Setting::Defaults { .. } => "defaults/".into(),
            Setting::Domain(domain) => format!("domain/{}", domain.name),
            Setting::OutgoingUser(user) => format!("outgoing_user/{}", user.id()),
            Setting::EgressSource(source) => format!("egress_source/{}", source.ip),
            Setting::EgressPool(pool) => format!("egress_pool/{}", pool.name),
            Setting::DkimKey(key) => format!("dkim_key/{}/{}", key.domain, key.selector),
            Setting::Route(route) => format!("route/{}", route.domain),
            Setting::Unknown => "unknown/".into(),
        }
    }
}

/// An outgoing domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainSettings {
    pub name: Domain,
    /// Where feedback reports go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abuse_address: Option<crate::Mailbox>,
    #[serde(default)]
    pub settings: UserSettings,
}

/// Who may send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutgoingUser {
    pub domain: Domain,
    pub auth: UserAuth,
    #[serde(default)]
    pub settings: UserSettings,
}

impl OutgoingUser {
    #[must_use]
    pub fn id(&self) -> UserId {
        match &self.auth {
            UserAuth::Ip { range } => UserId(range.trunc().to_string()),
            UserAuth::Password { login, .. } => UserId(login.clone()),
        }
    }
}

/// How an outgoing user authenticates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum UserAuth {
    /// By its address; the most specific range wins.
    Ip { range: IpNet },
    /// By AUTH; the login (lower case) is the domain, or a mailbox of it.
    Password {
        login: String,
        /// argon2id, in PHC string format.
        password_hash: String,
    },
}

/// An address that mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressSource {
    pub node: String,
    pub ip: IpAddr,
    /// Argument of EHLO; absent: the PTR name of the address, else the node's host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ehlo: Option<String>,
}

/// Weighted sources. The pool named `default` is used where no other is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPool {
    pub name: String,
    pub sources: Vec<WeightedSource>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedSource {
    pub ip: IpAddr,
    pub weight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DkimAlgorithm {
    RsaSha256,
    Ed25519Sha256,
}

/// A key that mail is signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimKey {
    /// SDID, `d=`.
    pub domain: Domain,
    pub selector: String,
    pub algorithm: DkimAlgorithm,
    /// PKCS#8 DER, sealed with the cluster key, base64: `key-id:nonce:ciphertext`.
    pub sealed_private_key: String,
    /// Public part as it stands in `p=`, base64.
    pub public_key: String,
    /// Of two keys of a kind the older one signs. Absent on keys made before this was written down: older than any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

/// Where mail for a domain goes in place of its MX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    pub domain: Domain,
    /// `host:port`, host being a name (its A and AAAA are looked up) or an address.
    pub host: String,
}

/// A record of `changes`, keyed by the setting's key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Key of the setting.
    pub key: String,
    pub at: Timestamp,
    pub by: String,
    /// JSON of the setting before and after, secrets left out; absent: it did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}
