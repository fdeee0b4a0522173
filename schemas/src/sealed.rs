//! Secrets in the log are sealed with the cluster key (XChaCha20-Poly1305); the sealed form names the key's fingerprint.

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

/// Why something sealed cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("not in the sealed form `fingerprint:nonce:ciphertext`")]
    Form,
    #[error(
        "sealed with cluster key {sealed_with}, but this node has cluster key {ours}: give every node the same key file"
    )]
    OtherKey { sealed_with: String, ours: String },
    #[error("damaged, or sealed for another purpose")]
    Damaged,
    #[error("a cluster key file holds 32 bytes in base64, on one line")]
    KeyFile,
}

/// The key that every node of a cluster has.
#[derive(Clone)]
pub struct ClusterKey {
    cipher: XChaCha20Poly1305,
    fingerprint: String,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterKey({})", self.fingerprint)
    }
}

impl ClusterKey {
    /// A new key file's content: 32 random bytes in base64 and a line end.
    #[must_use]
    pub fn generate() -> String {
        format!("{}\n", STANDARD.encode(XChaCha20Poly1305::generate_key(&mut OsRng)))
    }

    /// # Errors
    /// `KeyFile` when it is not the content of a key file.
    pub fn from_file_content(content: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(content.trim()).map_err(|_| SealError::KeyFile)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| SealError::KeyFile)?;
        let digest = Sha256::digest(&bytes);
        let fingerprint = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
        Ok(ClusterKey { cipher, fingerprint })
    }

    /// First 48 bits of the key's SHA-256, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Seals `secret`; `purpose` (say, the setting's key) must be the same to open it.
    #[must_use]
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> String {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let sealed =
            self.cipher.encrypt(&nonce, Payload { msg: secret, aad: purpose.as_bytes() }).unwrap_or_default(); // fails only over 256 GiB
        format!("{}:{}:{}", self.fingerprint, STANDARD.encode(nonce), STANDARD.encode(sealed))
    }

    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let mut parts = sealed.splitn(3, ':');
        let (Some(fingerprint), Some(nonce), Some(ciphertext)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Form);
        };
        if fingerprint != self.fingerprint {
            return Err(SealError::OtherKey {
                sealed_with: fingerprint.into(),
                ours: self.fingerprint.clone(),
            });
        }
        let nonce = STANDARD.decode(nonce).map_err(|_| SealError::Form)?;
        let ciphertext = STANDARD.decode(ciphertext).map_err(|_| SealError::Form)?;
        if nonce.len() != 24 {
            return Err(SealError::Form);
        }
        self.cipher
            .decrypt(XNonce::from_slice(&nonce), Payload { msg: &ciphertext, aad: purpose.as_bytes() })
            .map_err(|_| SealError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_open_it() {
        let key = ClusterKey::from_file_content(&ClusterKey::generate()).unwrap();
        let sealed = key.seal("dkim_key/a/b", b"secret");
        assert_eq!(key.open("dkim_key/a/b", &sealed).unwrap(), b"secret");
        assert!(matches!(key.open("dkim_key/a/c", &sealed), Err(SealError::Damaged)));
        let other = ClusterKey::from_file_content(&ClusterKey::generate()).unwrap();
        assert!(matches!(other.open("dkim_key/a/b", &sealed), Err(SealError::OtherKey { .. })));
    }
}
