//! The control socket: HTTP and JSON over a Unix socket that only its owner may open; CLI verbs are its clients.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Binds the socket with mode 0600. One that a dead process left is replaced: the log's own lock tells who is alive.
///
/// # Errors
/// When it cannot be made.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be replaced", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("the control socket {} cannot be made", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    router: axum::Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // A request that is under way when the process stops is cut off after this; its effect, if any, is in the log.
    let stop = shutdown.clone();
    let served =
        axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await });
    tokio::select! {
        served = served => Ok(served?),
        () = async { stop.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(2)).await } => Ok(()),
    }
}

/// A client of the socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    actor: String,
}

impl Client {
    /// `actor` is written into the audit trail as who asked.
    #[must_use]
    pub fn new(path: PathBuf, actor: String) -> Self {
        Client { path, actor }
    }

    /// # Errors
    /// When no process listens, or what the process answered, when it refused.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let bytes = self.request(Method::GET, &with_query(path, query), Bytes::new()).await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("the answer to {path} is not what was expected"))
    }

    /// The answer as it came.
    ///
    /// # Errors
    /// As `get`.
    pub async fn get_bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// # Errors
    /// As `get`.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> anyhow::Result<T> {
        let bytes = self.request(Method::POST, path, serde_json::to_vec(body)?.into()).await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("the answer to {path} is not what was expected"))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.path).await.with_context(|| {
            format!("no mailweir answers at {}: is `mailweir run` running with this configuration, and may you open its socket?", self.path.display())
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "mailweir")
            .header("content-type", "application/json")
            .header("x-mailweir-actor", &self.actor)
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
    }
}

/// What the process said when it refused.
#[derive(serde::Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    fix: Option<String>,
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error, fix: Some(fix) }) => anyhow::anyhow!("{error}\n  {fix}"),
        Ok(Refusal { error, fix: None }) => anyhow::anyhow!("{error}"),
        Err(_) => anyhow::anyhow!("{status}: {}", String::from_utf8_lossy(body)),
    }
}

fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (index, (name, value)) in query.iter().enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        percent_encode(value, &mut out);
    }
    out
}

/// Percent-encodes everything but unreserved characters (RFC 3986 2.3).
pub fn percent_encode(text: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(
            with_query("/v1/log", &[("user", "a+b@c d&e".into()), ("x", "1".into())]),
            "/v1/log?user=a%2Bb%40c%20d%26e&x=1"
        );
    }
}
