//! The certificate, read again when its files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use eventlog::Clock;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemas::Timestamp;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::File;
use crate::{Error, TlsFiles};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A certificate that ends within this is warned of: those that are renewed by themselves are newer at any time.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// The current certificate; clones share it.
#[derive(Clone)]
pub struct Certificate {
    files: TlsFiles,
    /// When the files that were loaded first had been changed last: taken before they were read, so that no change after it
    /// is missed.
    first_seen: Modified,
    loaded: Arc<RwLock<Loaded>>,
}

/// Of the certificate and the key.
type Modified = [Option<SystemTime>; 2];

struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the certificate of the chain that ends first; none when that cannot be read.
    expires: Option<Timestamp>,
}

impl Certificate {
    /// # Errors
    /// When a file cannot be read, or certificate and key do not fit.
    pub fn load(files: &TlsFiles) -> Result<Self, Error> {
        let first_seen = modified(files);
        Ok(Certificate { files: files.clone(), first_seen, loaded: Arc::new(RwLock::new(read(files)?)) })
    }

    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).config))
    }

    /// When it ends, or the certificate of its chain that ends first.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).expires
    }

    /// Writes when it ends into the gauge of its file.
    pub fn tell(&self, expires: &Family<File, Gauge>) {
        let file = File { file: self.files.certificate.display().to_string() };
        match self.expires() {
            Some(at) => drop(expires.get_or_create(&file).set(at.0.div_euclid(1000))),
            None => drop(expires.remove(&file)),
        }
    }

    /// Reads the files again whenever they changed; a pair that does not fit is left alone until it does. Warns of an end
    /// that is near: at once, after each change, and daily.
    pub async fn watch(
        self,
        expires: Family<File, Gauge>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) {
        let mut seen = self.first_seen;
        let mut warned_at = self.warn(clock.now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if clock.now().since(warned_at) >= WARN_EVERY {
                warned_at = self.warn(clock.now());
            }
            let now = modified(&self.files);
            if now == seen {
                continue;
            }
            // Told once: the next change, of the other file most likely, is another try.
            seen = now;
            match read(&self.files) {
                Ok(loaded) => {
                    *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
                    self.tell(&expires);
                    warned_at = self.warn(clock.now());
                }
                Err(error) => {
                    tracing::error!(%error, "the new certificate cannot be used, the old one stays");
                }
            }
        }
    }
}

impl Certificate {
    /// Warns if the end is near; says when it looked.
    fn warn(&self, now: Timestamp) -> Timestamp {
        if let Some(warning) = self.expires().and_then(|expires| warning(expires, now)) {
            tracing::warn!(certificate = %self.files.certificate.display(), "{warning}");
        }
        now
    }
}

/// What to say of a certificate that ends then, if anything.
fn warning(expires: Timestamp, now: Timestamp) -> Option<String> {
    if expires <= now {
        return Some("the certificate has expired: clients that verify it send no mail".into());
    }
    let left = expires.since(now);
    (left <= WARN_BEFORE).then(|| format!("the certificate expires in {} days", left.as_secs() / 86_400))
}

/// The end of the certificate that ends first.
fn first_end(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let end = |certificate: &CertificateDer<'_>| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Timestamp(parsed.validity().not_after.timestamp().saturating_mul(1000)))
    };
    chain.iter().filter_map(end).min()
}

fn modified(files: &TlsFiles) -> Modified {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read(files: &TlsFiles) -> Result<Loaded, Error> {
    let problem = |path: &Path, problem: String| Error::Certificate { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(&files.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(problem(&files.certificate, "holds no certificate in PEM".into()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| problem(&files.key, error.to_string()))?;
    let expires = first_end(&certificates);
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| {
                problem(&files.key, format!("does not fit {}: {error}", files.certificate.display()))
            })?;
    // Mail servers resume sessions; a small cache is enough and keeps memory bounded.
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(1024);
    Ok(Loaded { config: Arc::new(config), expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn an_end_is_warned_of_from_two_weeks_before_on() {
        let now = Timestamp(1_795_512_600_000);
        let says = |left: i64| warning(Timestamp(now.0 + left), now);
        assert_eq!(says(14 * DAY + 1000), None);
        assert_eq!(says(14 * DAY).as_deref(), Some("the certificate expires in 14 days"));
        assert_eq!(says(DAY - 1).as_deref(), Some("the certificate expires in 0 days"));
        assert!(says(0).is_some_and(|text| text.contains("has expired")));
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates() {
        let certificate = |days: u64| {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days * 86_400);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        let chain = [certificate(21_000), certificate(20_000)];
        assert_eq!(first_end(&chain), Some(Timestamp(20_000 * DAY)));
        assert_eq!(first_end(&[CertificateDer::from(vec![0; 9])]), None);
    }
}
