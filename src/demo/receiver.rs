//! The demo's receiving server: takes any mail over STARTTLS, refuses `nobody@`, defers the first try for
//! `@slow.example`, and remembers what it got.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Longest message the demo's own traffic can give rise to, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub recipients: Vec<String>,
    pub message: Vec<u8>,
    pub over_tls: bool,
}

/// The receiving server.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
}

struct Shared {
    tls: TlsAcceptor,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    deferred_once: HashSet<String>,
}

impl Receiver {
    /// Listens on a free port of 127.0.0.1 and serves until `shutdown`.
    ///
    /// # Errors
    /// When no port or certificate can be had.
    pub async fn start(shutdown: CancellationToken) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the demo's receiving server")?;
        let address = listener.local_addr()?;
        let receiver = Receiver {
            shared: Arc::new(Shared { tls: super::certificate::acceptor()?, state: Mutex::default() }),
        };
        let serving = receiver.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    Ok((stream, _)) = listener.accept() => {
                        let serving = serving.clone();
                        // A connection that breaks is the sender's to retry.
                        tokio::spawn(async move { serving.session(stream).await.ok() });
                    }
                }
            }
        });
        Ok((receiver, address))
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn session(&self, stream: TcpStream) -> anyhow::Result<()> {
        let mut plain = BufReader::new(stream);
        plain.write_all(b"220 mx.inbox.example ESMTP demo receiver\r\n").await?;
        if self.converse(&mut plain, false).await? == Next::StartTls {
            let mut secured = BufReader::new(self.shared.tls.accept(plain.into_inner()).await?);
            self.converse(&mut secured, true).await?;
        }
        Ok(())
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        over_tls: bool,
    ) -> anyhow::Result<Next> {
        let mut recipients: Vec<String> = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Next::Quit);
            }
            let verb = line.trim_end().to_ascii_uppercase();
            let reply = match verb.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" if over_tls => "250-mx.inbox.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES".into(),
                "EHLO" => "250-mx.inbox.example\r\n250-STARTTLS\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES".into(),
                "HELO" | "NOOP" => "250 2.0.0 ok".into(),
                "STARTTLS" if !over_tls => {
                    stream.write_all(b"220 2.0.0 go ahead\r\n").await?;
                    return Ok(Next::StartTls);
                }
                "MAIL" | "RSET" => {
                    recipients.clear();
                    "250 2.1.0 ok".into()
                }
                "RCPT" => self.recipient(&line, &mut recipients),
                "DATA" if recipients.is_empty() => "503 5.5.1 no recipient".into(),
                "DATA" => {
                    stream.write_all(b"354 go ahead\r\n").await?;
                    let message = read_message(stream).await?;
                    self.state().received.push(Received { recipients: std::mem::take(&mut recipients), message, over_tls });
                    "250 2.0.0 kept".into()
                }
                "QUIT" => {
                    stream.write_all(b"221 2.0.0 bye\r\n").await?;
                    return Ok(Next::Quit);
                }
                _ => String::from("500 5.5.2 unknown command"),
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
    }

    fn recipient(&self, line: &str, recipients: &mut Vec<String>) -> String {
        let path =
            line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
        if path.starts_with("nobody@") {
            return "550 5.1.1 no such user here".into();
        }
        if path.ends_with("@slow.example") && self.state().deferred_once.insert(path.to_owned()) {
            return "450 4.2.0 greylisted, come again".into();
        }
        recipients.push(path.to_owned());
        "250 2.1.5 ok".into()
    }
}

#[derive(PartialEq)]
enum Next {
    StartTls,
    Quit,
}

async fn read_message<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> anyhow::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let start = message.len();
        if stream.read_until(b'\n', &mut message).await? == 0 || message.len() > MAX_MESSAGE_BYTES {
            anyhow::bail!("the sender broke off or sent more than the demo takes");
        }
        if &message[start..] == b".\r\n" {
            message.truncate(start);
            return Ok(message);
        }
        if message[start] == b'.' {
            message.remove(start);
        }
    }
}
