//! Self-signed certificates for the peers and for ingress.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eventlog::{Clock, SystemClock};

/// Writes `NAME.pem` and `NAME.key` into `directory`.
///
/// # Panics
/// When they cannot be made.
#[must_use]
pub fn make(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    write(directory, name, &rcgen::CertificateParams::new([name.to_owned()]).expect("a name"))
}

/// The same of one that ends so long from now.
///
/// # Panics
/// When they cannot be made.
pub fn make_for(directory: &Path, name: &str, left: Duration) {
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
    let since_1970 = SystemClock.now().since(schemas::Timestamp(0));
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970 + left;
    drop(write(directory, name, &params));
}

fn write(directory: &Path, name: &str, params: &rcgen::CertificateParams) -> (PathBuf, PathBuf) {
    let signing_key = rcgen::KeyPair::generate().expect("a key");
    let made = params.self_signed(&signing_key).expect("a certificate");
    let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&certificate, made.pem()).expect("the certificate's file");
    std::fs::write(&key, signing_key.serialize_pem()).expect("the key's file");
    (certificate, key)
}
