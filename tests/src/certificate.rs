//! Self-signed certificates for the peers and for ingress.

use std::path::{Path, PathBuf};

/// Writes `NAME.pem` and `NAME.key` into `directory`.
///
/// # Panics
/// When they cannot be made.
#[must_use]
pub fn make(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).expect("the certificate's file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("the key's file");
    (certificate, key)
}
