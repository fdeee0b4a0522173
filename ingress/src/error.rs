//! What keeps ingress from running.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{address} cannot be listened on; is another mail server running there?")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("{path}: {problem}")]
    Certificate { path: PathBuf, problem: String },
    #[error("a listener wants TLS, but there is no certificate: set tls.certificate and tls.key")]
    NoCertificate,
}
