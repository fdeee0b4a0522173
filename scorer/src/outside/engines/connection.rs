//! Connections to an engine, what can go wrong on them, and reading from them within bounds.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port`, or an absolute path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Address::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_ipv6 = bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (is_ipv6 || is_name).then(|| Address::Tcp(bare.unwrap_or(host).to_owned(), port))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why an engine has not said anything of a message.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// Before the first byte of an answer.
    #[error("it closed the connection without an answer")]
    Closed,
    #[error("no answer in time")]
    TimedOut,
    #[error("it answered nonsense: {0}")]
    Nonsense(String),
    #[error("it answered: {0}")]
    Refused(String),
}

/// A stream to either kind of address.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: &Address) -> Result<Self, Failure> {
        let connected = match address {
            Address::Tcp(host, port) => {
                TcpStream::connect((host.as_str(), *port)).await.map(|stream| {
                    // What is written is written whole: waiting for more only costs time. Without it, it works, too.
                    stream.set_nodelay(true).ok();
                    Stream::Tcp(stream)
                })
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        };
        connected.map_err(Failure::Unreachable)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Reads until `done` says how much of what was read is the answer; at most `max` bytes. `done` is told, too, whether the
/// engine has closed.
///
/// # Errors
/// When the engine says too much, or closes before its answer is whole.
pub async fn read_until<R: AsyncRead + Unpin>(
    reader: &mut R,
    max: usize,
    done: impl Fn(&[u8], bool) -> Option<usize>,
) -> Result<Vec<u8>, Failure> {
    let mut answer = Vec::new();
    loop {
        if let Some(end) = done(&answer, false) {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() >= max {
            return Err(Failure::Nonsense(format!("more than {max} bytes")));
        }
        let mut some = [0u8; 4096];
        let wanted = some.len().min(max - answer.len());
        let read = match reader.read(&mut some[..wanted]).await {
            Ok(read) => read,
            Err(_) if answer.is_empty() => return Err(Failure::Closed),
            Err(error) => return Err(Failure::Broken(error)),
        };
        if read == 0 {
            if let Some(end) = done(&answer, true) {
                answer.truncate(end);
                return Ok(answer);
            }
            return Err(if answer.is_empty() {
                Failure::Closed
            } else {
                Failure::Nonsense("half an answer".into())
            });
        }
        answer.extend_from_slice(&some[..read]);
    }
}

/// Writes a question and reads the answer, at once: an engine may answer before it has read everything, and what cannot be
/// written then matters less than what it said. `true` when all was written.
pub async fn exchange<A>(
    write: impl Future<Output = io::Result<()>>,
    read: impl Future<Output = Result<A, Failure>>,
) -> (Result<A, Failure>, bool) {
    tokio::pin!(write, read);
    tokio::select! {
        biased;
        written = &mut write => (read.await, written.is_ok()),
        answer = &mut read => (answer, false),
    }
}

/// Longer than this no connection waits for its next message: engines, and what stands before them, close idle ones, each
/// after a time and in a manner of its own.
const LONGEST_IDLE: Duration = Duration::from_secs(20);

/// Connections that wait for their next message, and since when. Whoever asks holds one of the engine's places, so there are
/// never more of them than places.
///
/// A connection may have been ended while nobody used it, or just as it is used again; some engines say why before they
/// close. So what goes wrong on one, whatever it is, says nothing of the engine: the message is tried once anew.
pub struct Idle<T>(Mutex<Vec<(Instant, T)>>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Idle(Mutex::default())
    }
}

impl<T> Idle<T> {
    /// The one that was used last.
    pub fn take(&self) -> Option<T> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Option<T> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(since, _)| now.saturating_duration_since(*since) <= LONGEST_IDLE);
        waiting.pop().map(|(_, connection)| connection)
    }

    pub fn put(&self, connection: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_paths() {
        for (text, shown) in [
            ("127.0.0.1:783", Some("127.0.0.1:783")),
            ("[::1]:3310", Some("[::1]:3310")),
            ("clamav:3310", Some("clamav:3310")),
            ("/run/clamav/clamd.ctl", Some("/run/clamav/clamd.ctl")),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("::1:3310", None),
            (":3310", None),
            ("a b:1", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_connection_that_waited_too_long_is_not_used_again() {
        let idle = Idle::default();
        assert_eq!(idle.take(), None);
        let before = Instant::now();
        idle.put("first");
        idle.put("second");
        assert_eq!(idle.take_at(before + LONGEST_IDLE), Some("second"));
        idle.put("third");
        assert_eq!(idle.take_at(Instant::now() + LONGEST_IDLE + Duration::from_millis(1)), None);
        assert_eq!(idle.take(), None, "they are all gone");
    }
}
