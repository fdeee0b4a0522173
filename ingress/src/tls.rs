//! The certificate, read again when its files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{Error, TlsFiles};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The current certificate; clones share it.
#[derive(Clone)]
pub struct Certificate {
    files: TlsFiles,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Certificate {
    /// # Errors
    /// When a file cannot be read, or certificate and key do not fit.
    pub fn load(files: &TlsFiles) -> Result<Self, Error> {
        Ok(Certificate { files: files.clone(), config: Arc::new(RwLock::new(read(files)?)) })
    }

    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads the files again whenever they changed; a pair that does not fit is left alone until it does.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut seen = modified(&self.files);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = modified(&self.files);
            if now == seen {
                continue;
            }
            // Told once: the next change, of the other file most likely, is another try.
            seen = now;
            match read(&self.files) {
                Ok(config) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
                }
                Err(error) => {
                    tracing::error!(%error, "the new certificate cannot be used, the old one stays");
                }
            }
        }
    }
}

fn modified(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, Error> {
    let problem = |path: &Path, problem: String| Error::Certificate { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(&files.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(problem(&files.certificate, "holds no certificate in PEM".into()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| problem(&files.key, error.to_string()))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| {
                problem(&files.key, format!("does not fit {}: {error}", files.certificate.display()))
            })?;
    // Mail servers resume sessions; a small cache is enough and keeps memory bounded.
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(1024);
    Ok(Arc::new(config))
}
