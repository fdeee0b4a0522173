//! `GET /v1/dkim`, `POST /v1/dkim/generate`, `/import`, `/remove`.

use schemas::settings::DkimAlgorithm;
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/dkim`. Parameters: `domain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DkimKeys {
    pub keys: Vec<DkimKeyInfo>,
}

/// Request of `POST /v1/dkim/generate`; the answer is a [`DkimKeyInfo`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimGenerate {
    pub domain: String,
    pub selector: String,
    /// `rsa` (2048 bits, the default), `rsa4096` or `ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
}

/// Request of `POST /v1/dkim/import`; the answer is a [`DkimKeyInfo`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimImport {
    pub domain: String,
    pub selector: String,
    /// Unencrypted private key, PKCS#8 or PKCS#1.
    pub pem: String,
}

impl std::fmt::Debug for DkimImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DkimImport({} {})", self.domain, self.selector)
    }
}

/// Request of `POST /v1/dkim/remove`; the answer is the [`DkimKeyInfo`] of the key that was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimRemove {
    pub domain: String,
    pub selector: String,
}

/// A key, without its private part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DkimKeyInfo {
    pub domain: String,
    pub selector: String,
    pub algorithm: DkimAlgorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    pub record: DnsRecord,
    /// What the person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A TXT record, ready to paste.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// `selector._domainkey.domain`, without a dot at its end.
    pub name: String,
    /// The whole value, for a web form that takes it in one piece.
    pub value: String,
    /// The value in strings of at most 255 bytes.
    pub strings: Vec<String>,
    /// As a line of a zone file.
    pub zone_file: String,
}
