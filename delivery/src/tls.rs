//! Opportunistic TLS (RFC 7435): what is encrypted for a stranger is still encrypted. The certificate is looked at
//! afterwards, only to record whether it was good.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use schemas::envelope::Tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Error;

/// TLS as a client.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    /// Absent when there is no root certificate to verify by.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl ClientTls {
    /// With the root certificates of `roots_file` (PEM), else the system's.
    ///
    /// # Errors
    /// When `roots_file` cannot be read or holds no certificate.
    pub fn new(roots_file: Option<&Path>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = match roots_file {
            Some(path) => roots_of(path)?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().ok();
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider that is built in supports the default protocol versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(ClientTls { connector: TlsConnector::from(Arc::new(config)), verifier })
    }

    pub(crate) async fn connect(
        &self,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Tls)> {
        let stream = self.connector.connect(name.clone(), stream).await?;
        let negotiated = self.negotiated(&stream, &name);
        Ok((stream, negotiated))
    }

    fn negotiated(&self, stream: &TlsStream<TcpStream>, name: &ServerName<'_>) -> Tls {
        let (_, connection) = stream.get_ref();
        let version = connection.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown");
        let cipher = connection.negotiated_cipher_suite().and_then(|c| c.suite().as_str());
        let verified = match (&self.verifier, connection.peer_certificates()) {
            (Some(verifier), Some([first, rest @ ..])) => {
                verifier.verify_server_cert(first, rest, name, &[], UnixTime::now()).is_ok()
            }
            _ => false,
        };
        Tls { version: version.replace('_', "."), cipher: cipher.unwrap_or("unknown").to_owned(), verified }
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, Error> {
    let failed = |problem: String| Error::Roots { path: path.to_owned(), problem };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(format!("is no PEM file: {error}")))?;
        roots.add(certificate).map_err(|error| failed(format!("has a bad certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(failed("holds no certificate".into()));
    }
    Ok(roots)
}

/// Takes any certificate, but only from who holds its private key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
