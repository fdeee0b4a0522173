//! DKIM (RFC 6376, RFC 8463): what is signed with which key, and whether the author's own signature is valid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use schemas::Domain;
use schemas::sealed::ClusterKey;
pub use schemas::settings::dkim_keys_for as keys_for;
use schemas::settings::{DkimAlgorithm, DkimKey, Setting};

/// Signed where present (RFC 6376 5.4.1). From stands twice: so nobody can add another.
const SIGNED: [&str; 20] = [
    "From",
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
    "List-Archive",
    "Sender",
];

/// Signatures of the author that are looked at.
const MAX_SIGNATURES: usize = 5;
/// For all of them. What cannot be judged by then is left as it came.
const VERIFY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Keys ready to sign, kept as long as the setting they came from stays the same.
#[derive(Default)]
pub struct Signers {
    ready: Mutex<HashMap<String, Arc<Signer>>>,
}

/// One key, ready.
pub struct Signer {
    /// What it was made from.
    sealed: String,
    key: Key,
    label: String,
}

enum Key {
    Rsa(DkimSigner<RsaKey<Sha256>, mail_auth::dkim::Done>),
    Ed25519(DkimSigner<Ed25519Key, mail_auth::dkim::Done>),
}

impl Signers {
    /// The signer of a key.
    ///
    /// # Errors
    /// Why it cannot sign, for the log.
    pub fn get(&self, key: &DkimKey, cluster_key: Option<&ClusterKey>) -> Result<Arc<Signer>, String> {
        let name = Setting::DkimKey(key.clone()).key();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = ready.get(&name).filter(|signer| signer.sealed == key.sealed_private_key) {
            return Ok(Arc::clone(signer));
        }
        let cluster_key = cluster_key.ok_or("there is no cluster key")?;
        let der = cluster_key.open(&name, &key.sealed_private_key).map_err(|error| error.to_string())?;
        let signer = Arc::new(Signer::new(key, &der)?);
        ready.insert(name, Arc::clone(&signer));
        Ok(signer)
    }
}

impl Signer {
    fn new(key: &DkimKey, der: &[u8]) -> Result<Self, String> {
        let text = |error: mail_auth::Error| format!("{error:?}");
        let (domain, selector) = (key.domain.as_str(), key.selector.as_str());
        let (made, algorithm) = match key.algorithm {
            DkimAlgorithm::RsaSha256 => {
                let rsa = RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)))
                    .map_err(text)?;
                (
                    Key::Rsa(with_options(
                        DkimSigner::from_key(rsa).domain(domain).selector(selector).headers(SIGNED),
                    )),
                    "rsa-sha256",
                )
            }
            DkimAlgorithm::Ed25519Sha256 => {
                let ed = Ed25519Key::from_pkcs8_maybe_unchecked_der(der).map_err(text)?;
                (
                    Key::Ed25519(with_options(
                        DkimSigner::from_key(ed).domain(domain).selector(selector).headers(SIGNED),
                    )),
                    "ed25519-sha256",
                )
            }
        };
        Ok(Signer {
            sealed: key.sealed_private_key.clone(),
            key: made,
            label: format!("d={domain} s={selector} a={algorithm}"),
        })
    }

    /// The `DKIM-Signature` field over a header section and what follows it (the empty line first), and what to call it.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn sign(&self, head: &[u8], body: &[u8]) -> Result<(String, String), String> {
        let chunks = [head, body];
        let signature = match &self.key {
            Key::Rsa(signer) => signer.sign_chained(chunks),
            Key::Ed25519(signer) => signer.sign_chained(chunks),
        };
        let signature = signature.map_err(|error| format!("{error:?}"))?;
        Ok((signature.to_header(), self.label.clone()))
    }
}

fn with_options<K: mail_auth::common::crypto::SigningKey>(
    signer: DkimSigner<K, mail_auth::dkim::Done>,
) -> DkimSigner<K, mail_auth::dkim::Done> {
    signer.header_canonicalization(Canonicalization::Relaxed).body_canonicalization(Canonicalization::Relaxed)
}

/// What the author's own signature is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorSignature {
    /// Valid, or not to be judged now because DNS does not answer: such a message is left as it is.
    pub untouchable: bool,
    /// Fields it covers.
    pub signed_fields: Vec<String>,
}

/// Looks at the signatures of the From domain (or a parent of it) on a message.
pub async fn author_signature(
    authenticator: &MessageAuthenticator,
    message: &[u8],
    header_from: Option<&Domain>,
) -> AuthorSignature {
    let (section, _) = crate::header::split(message);
    let section = &message[..section];
    let has_any = crate::header::has(section, &crate::header::fields(section), "DKIM-Signature");
    let (true, Some(from)) = (has_any, header_from) else { return AuthorSignature::default() };
    let Some(mut parsed) = AuthenticatedMessage::parse(message) else { return AuthorSignature::default() };
    // Only what speaks for the author costs a look into DNS, and not without end.
    parsed.dkim_headers.retain(|found| is_same_or_parent(&found.header.d, from.as_str()));
    parsed.dkim_headers.truncate(MAX_SIGNATURES);
    if parsed.dkim_headers.is_empty() {
        return AuthorSignature::default();
    }
    let mut found = AuthorSignature::default();
    let Ok(outputs) = tokio::time::timeout(VERIFY_TIMEOUT, authenticator.verify_dkim(&parsed)).await else {
        let fields = parsed.dkim_headers.iter().flat_map(|header| header.header.h.iter().cloned());
        return AuthorSignature { untouchable: true, signed_fields: fields.collect() };
    };
    for output in outputs {
        let Some(signature) = output.signature() else { continue };
        if !is_same_or_parent(&signature.d, from.as_str()) {
            continue;
        }
        if matches!(output.result(), DkimResult::Pass | DkimResult::TempError(_)) {
            found.untouchable = true;
            found.signed_fields.extend(signature.h.iter().cloned());
        }
    }
    found
}

fn is_same_or_parent(signer: &str, from: &str) -> bool {
    let signer = signer.to_ascii_lowercase();
    from == signer || from.strip_suffix(signer.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body is not taken for more header fields, whatever it looks like.
    #[test]
    fn a_body_that_looks_like_a_header_is_signed_as_a_body() {
        let der = Ed25519Key::generate_pkcs8().unwrap();
        let key = DkimKey {
            domain: Domain::parse("a.example").unwrap(),
            selector: "s".into(),
            algorithm: DkimAlgorithm::Ed25519Sha256,
            sealed_private_key: String::new(),
            public_key: String::new(),
            created_at: None,
        };
        let signer = Signer::new(&key, &der).unwrap();
        let body_hash = |field: &str| {
            let joined: String = field.split_whitespace().collect();
            joined.split("bh=").nth(1).unwrap().split(';').next().unwrap().to_owned()
        };
        let (split, _) =
            signer.sign(b"From: x@a.example\r\n", b"\r\nSubject: not a field\r\n\r\nrest\r\n").unwrap();
        let (whole, _) =
            signer.sign(b"", b"From: x@a.example\r\n\r\nSubject: not a field\r\n\r\nrest\r\n").unwrap();
        assert_eq!(body_hash(&split), body_hash(&whole));
        assert!(split.contains("From:From") || split.contains("From: From"), "From is over-signed: {split}");
    }

    #[test]
    fn a_parent_domain_speaks_for_its_children() {
        assert!(
            is_same_or_parent("example.com", "example.com")
                && is_same_or_parent("Example.com", "mail.example.com")
        );
        assert!(
            !is_same_or_parent("ample.com", "example.com")
                && !is_same_or_parent("mail.example.com", "example.com")
        );
    }
}
