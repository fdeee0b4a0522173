//! Why ingress cannot start. Once it runs, errors belong to a session and are answered there.

use std::net::SocketAddr;
use std::path::PathBuf;

/// An error of ingress; all of them are the administrator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use, not of this machine, or the port needs a privilege.
    #[error("ingress.listener: {address} cannot be bound: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    /// A file of `[tls]` cannot be read or is no PEM file of the right kind.
    #[error("tls: {path}: {detail}")]
    TlsFile { path: PathBuf, detail: String },
    /// Certificate and key do not belong together, or the TLS library refuses them.
    #[error("tls: certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// A listener offers TLS and there is no certificate.
    #[error("ingress.listener: {0} offers TLS but [tls] certificate and key are not set")]
    NoCertificate(SocketAddr),
    /// The host name cannot stand in a greeting.
    #[error("ingress.hostname: `{0}` is no host name")]
    Hostname(String),
    /// The password hasher cannot be set up.
    #[error("the password hasher cannot be set up: {0}")]
    Hasher(String),
}
