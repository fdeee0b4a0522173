//! DKIM keys: made, read from PEM, sealed, and shown as the DNS record to publish (RFC 6376 3.6.1, RFC 8463).

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::sealed::ClusterKey;
use schemas::settings::{DkimAlgorithm, DkimKey, Setting};
use schemas::{Domain, Timestamp};

use crate::api::DnsRecord;

/// RSA keys shorter than this are refused, in bits (RFC 8301 3.2 asks signers for 2048 at least).
pub const MIN_RSA_BITS: usize = 2048;
/// Longest string in a TXT record, in bytes (RFC 1035 3.3.14).
const MAX_TXT_STRING: usize = 255;

/// A private key in the clear, as it is about to be sealed.
#[derive(Clone)]
pub struct PrivateKey {
    algorithm: DkimAlgorithm,
    pkcs8: Vec<u8>,
    /// As it stands in `p=`.
    public_key: String,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({:?}, public {})", self.algorithm, self.public_key)
    }
}

/// Which key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKey {
    Rsa2048,
    Rsa4096,
    Ed25519,
}

impl NewKey {
    #[must_use]
    pub fn algorithm(self) -> DkimAlgorithm {
        match self {
            NewKey::Rsa2048 | NewKey::Rsa4096 => DkimAlgorithm::RsaSha256,
            NewKey::Ed25519 => DkimAlgorithm::Ed25519Sha256,
        }
    }

    /// The words that people and files use: `rsa`, `rsa2048`, `rsa4096`, `ed25519`.
    ///
    /// # Errors
    /// What is wrong with the word.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "rsa" | "rsa2048" | "rsa-2048" | "rsa-sha256" | "rsa_sha256" => Ok(NewKey::Rsa2048),
            "rsa4096" | "rsa-4096" => Ok(NewKey::Rsa4096),
            "ed25519" | "ed25519-sha256" | "ed25519_sha256" => Ok(NewKey::Ed25519),
            "rsa1024" | "rsa-1024" | "rsa512" | "rsa-512" => Err(format!(
                "`{text}`: RSA keys shorter than 2048 bits are refused, receivers do not trust them"
            )),
            _ => Err(format!("`{text}` is no DKIM key algorithm")),
        }
    }
}

impl PrivateKey {
    /// Makes a key. RSA takes a good part of a second.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn generate(kind: NewKey) -> Result<Self, String> {
        let failed = |_| "a key could not be made".to_owned();
        match kind {
            NewKey::Rsa2048 => Self::of_rsa(&RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
            NewKey::Rsa4096 => Self::of_rsa(&RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?),
            NewKey::Ed25519 => Self::of_ed25519(&Ed25519KeyPair::generate().map_err(failed)?),
        }
    }

    /// Reads an unencrypted PEM private key: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// What is wrong with it, never with its content.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let (label, der) = pem_block(pem)?;
        match label {
            "PRIVATE KEY" => {
                if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&der) {
                    return Self::of_ed25519(&pair);
                }
                let pair = RsaKeyPair::from_pkcs8(&der).map_err(|error| rsa_refusal(&error.to_string()))?;
                Self::of_rsa(&pair)
            }
            "RSA PRIVATE KEY" => {
                let pair = RsaKeyPair::from_der(&der).map_err(|error| rsa_refusal(&error.to_string()))?;
                Self::of_rsa(&pair)
            }
            "ENCRYPTED PRIVATE KEY" => Err("is encrypted: decrypt it with `openssl pkey -in FILE`".into()),
            other => Err(format!("is a PEM file of `{other}`, not of a private key")),
        }
    }

    fn of_rsa(pair: &RsaKeyPair) -> Result<Self, String> {
        if pair.public_modulus_len() * 8 < MIN_RSA_BITS {
            return Err(rsa_refusal("TooSmall"));
        }
        let failed = |_| "the RSA key cannot be written".to_owned();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
        Ok(PrivateKey {
            algorithm: DkimAlgorithm::RsaSha256,
            pkcs8: pkcs8.as_ref().to_vec(),
            public_key: STANDARD.encode(public.as_ref()),
        })
    }

    fn of_ed25519(pair: &Ed25519KeyPair) -> Result<Self, String> {
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| "the Ed25519 key cannot be written".to_owned())?;
        Ok(PrivateKey {
            algorithm: DkimAlgorithm::Ed25519Sha256,
            pkcs8: pkcs8.as_ref().to_vec(),
            public_key: STANDARD.encode(pair.public_key().as_ref()),
        })
    }

    #[must_use]
    pub fn algorithm(&self) -> DkimAlgorithm {
        self.algorithm
    }

    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The setting, with the private key sealed for it.
    #[must_use]
    pub fn seal(
        &self,
        cluster_key: &ClusterKey,
        domain: &Domain,
        selector: &str,
        created_at: Option<Timestamp>,
    ) -> DkimKey {
        DkimKey {
            domain: domain.clone(),
            selector: selector.to_owned(),
            algorithm: self.algorithm,
            sealed_private_key: cluster_key.seal(&setting_key(domain, selector), &self.pkcs8),
            public_key: self.public_key.clone(),
            created_at,
        }
    }
}

/// The key of the setting that holds a DKIM key; also the purpose that it is sealed for.
#[must_use]
pub fn setting_key(domain: &Domain, selector: &str) -> String {
    let blank = DkimKey {
        domain: domain.clone(),
        selector: selector.to_owned(),
        algorithm: DkimAlgorithm::RsaSha256,
        sealed_private_key: String::new(),
        public_key: String::new(),
        created_at: None,
    };
    Setting::DkimKey(blank).key()
}

/// A selector: labels as in a domain name (RFC 6376 3.1), in lower case.
#[must_use]
pub fn parse_selector(text: &str) -> Option<String> {
    let parsed = Domain::parse(text).ok()?;
    (parsed.literal_ip().is_none() && text.is_ascii()).then(|| parsed.to_string())
}

fn rsa_refusal(error: &str) -> String {
    if error.contains("TooSmall") {
        "is an RSA key shorter than 2048 bits, which receivers do not trust".into()
    } else {
        "is no RSA or Ed25519 private key that can be read".into()
    }
}

/// Label and content of the first PEM block.
fn pem_block(pem: &str) -> Result<(&str, Vec<u8>), String> {
    let none = || "is no PEM file: it has no `-----BEGIN PRIVATE KEY-----`".to_owned();
    let (_, rest) = pem.split_once("-----BEGIN ").ok_or_else(none)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(none)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or_else(none)?;
    if body.contains("Proc-Type:") {
        return Err("is encrypted: decrypt it with `openssl pkey -in FILE`".into());
    }
    let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(base64).map_err(|_| "is a PEM file with damaged base64".to_owned())?;
    Ok((label, der))
}

/// The DNS record to publish for a key.
#[must_use]
pub fn dns_record(key: &DkimKey) -> DnsRecord {
    let kind = match key.algorithm {
        DkimAlgorithm::RsaSha256 => "rsa",
        DkimAlgorithm::Ed25519Sha256 => "ed25519",
    };
    let value = format!("v=DKIM1; k={kind}; p={}", key.public_key);
    let name = format!("{}._domainkey.{}", key.selector, key.domain);
    let strings: Vec<String> = value
        .as_bytes()
        .chunks(MAX_TXT_STRING)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let quoted: Vec<String> = strings.iter().map(|part| format!("\"{part}\"")).collect();
    let zone_file = format!("{name}. 3600 IN TXT ( {} )", quoted.join(" "));
    DnsRecord { name, value, strings, zone_file }
}

/// Length of a key in bits, from its public part.
#[must_use]
pub fn bits(key: &DkimKey) -> Option<u32> {
    match key.algorithm {
        DkimAlgorithm::Ed25519Sha256 => Some(256),
        DkimAlgorithm::RsaSha256 => {
            let der = STANDARD.decode(&key.public_key).ok()?;
            let public = aws_lc_rs::rsa::PublicEncryptingKey::from_der(&der).ok()?;
            u32::try_from(public.key_size_bits()).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain::parse("customer.example").unwrap()
    }

    fn cluster_key() -> ClusterKey {
        ClusterKey::from_file_content(&ClusterKey::generate()).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_key_opens_again_for_its_setting_alone() {
        let cluster_key = cluster_key();
        for kind in [NewKey::Rsa2048, NewKey::Ed25519] {
            let made = PrivateKey::generate(kind).unwrap();
            let key = made.seal(&cluster_key, &domain(), "s1", None);
            let opened = cluster_key.open("dkim_key/customer.example/s1", &key.sealed_private_key).unwrap();
            let again = PrivateKey::from_pem(&pem("PRIVATE KEY", &opened)).unwrap();
            assert_eq!((again.public_key(), again.algorithm()), (made.public_key(), kind.algorithm()));
            assert!(cluster_key.open("dkim_key/customer.example/s2", &key.sealed_private_key).is_err());
        }
    }

    #[test]
    fn the_record_can_be_pasted_into_a_zone() {
        let key = PrivateKey::generate(NewKey::Rsa2048).unwrap().seal(&cluster_key(), &domain(), "s1", None);
        assert_eq!(bits(&key), Some(2048));
        let record = dns_record(&key);
        assert_eq!(record.name, "s1._domainkey.customer.example");
        assert!(record.value.starts_with("v=DKIM1; k=rsa; p=MIIBIjAN"), "{}", record.value);
        assert_eq!(record.strings.concat(), record.value);
        assert!(record.strings.iter().all(|s| s.len() <= 255) && record.strings.len() == 2);
        assert!(record.zone_file.starts_with("s1._domainkey.customer.example. 3600 IN TXT ( \"v=DKIM1;"));
    }

    #[test]
    fn what_is_no_good_key_is_refused_with_a_reason() {
        for (pem, reason) in [
            ("hello".to_owned(), "no PEM file"),
            (pem("CERTIFICATE", b"x"), "of `CERTIFICATE`"),
            (pem("ENCRYPTED PRIVATE KEY", b"x"), "encrypted"),
            (pem("PRIVATE KEY", b"x"), "no RSA or Ed25519"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n-----END RSA PRIVATE KEY-----"
                    .into(),
                "encrypted",
            ),
        ] {
            let error = PrivateKey::from_pem(&pem).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(NewKey::parse("rsa1024").unwrap_err().contains("2048"));
    }

    #[test]
    fn selectors_are_labels() {
        assert_eq!(parse_selector("S1.Mail").as_deref(), Some("s1.mail"));
        for bad in ["", "a b", "-x", "a..b", "[192.0.2.1]", "ü"] {
            assert_eq!(parse_selector(bad), None, "{bad}");
        }
    }
}
