//! SMTP as a client (RFC 5321): one connection, one message at a time, pipelined where the peer allows it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::pki_types::ServerName;
use schemas::SmtpReply;
use schemas::envelope::Tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::outcome::local;

/// Longest reply line taken, and most lines of one reply.
const MAX_LINE: usize = 4096;
const MAX_LINES: usize = 128;
/// Dot-stuffed bytes gathered before a write.
const WRITE_BYTES: usize = 64 << 10;

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub command: Duration,
    pub data: Duration,
}

/// What the peer said it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub size: Option<u64>,
    pub dsn: bool,
    pub start_tls: bool,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection after EHLO.
pub struct Connection {
    wire: Wire,
    input: BytesMut,
    timeouts: Timeouts,
    pub peer: SocketAddr,
    pub capabilities: Capabilities,
    pub tls: Option<Tls>,
    pub tls_note: Option<String>,
    pub messages: usize,
}

/// What goes into a transaction.
pub struct Mail<'a> {
    /// `<path>` and parameters of MAIL, of each RCPT.
    pub mail: String,
    pub recipients: Vec<String>,
    pub head: &'a [u8],
    pub body: &'a [u8],
}

/// How a connection failed: a reply of ours, or the peer's own to connection or EHLO.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reply: SmtpReply,
    /// The reply is ours.
    pub local: bool,
    /// TLS was at fault: worth a try without.
    pub tls: bool,
}

impl Failure {
    fn of(text: impl Into<String>) -> Self {
        Failure { reply: local(451, (4, 4, 2), text), local: true, tls: false }
    }
}

/// The result of a transaction: a reply for each recipient, and whether the connection may be used again.
pub struct Sent {
    pub replies: Vec<(SmtpReply, bool)>,
    pub reusable: bool,
    /// It failed before any of the message was sent.
    pub before_content: bool,
}

/// How to open a connection.
pub struct Opening<'a> {
    pub server: &'a crate::dns::Server,
    pub source: Option<IpAddr>,
    pub ehlo: &'a str,
    pub timeouts: Timeouts,
    /// None: no TLS on this one, and why.
    pub tls: Result<&'a TlsConnector, String>,
}

/// Connects, greets, and starts TLS where the peer offers it.
///
/// # Errors
/// What happened, as a reply.
pub async fn open(opening: Opening<'_>) -> Result<Connection, Failure> {
    let address = opening.server.address;
    let connecting = connect(address, opening.source);
    let stream = match tokio::time::timeout(opening.timeouts.connect, connecting).await {
        Err(_) => {
            return Err(Failure {
                reply: local(451, (4, 4, 1), format!("No answer from {address}")),
                local: true,
                tls: false,
            });
        }
        Ok(Err(error)) => {
            return Err(Failure {
                reply: local(451, (4, 4, 1), format!("{address} cannot be reached: {error}")),
                local: true,
                tls: false,
            });
        }
        Ok(Ok(stream)) => stream,
    };
    let mut connection = Connection {
        wire: Wire::Plain(stream),
        input: BytesMut::new(),
        timeouts: opening.timeouts,
        peer: address,
        capabilities: Capabilities::default(),
        tls: None,
        tls_note: None,
        messages: 0,
    };
    let greeting = connection.reply(opening.timeouts.command).await?;
    if greeting.code != 220 {
        return Err(Failure { reply: greeting, local: false, tls: false });
    }
    connection.hello(opening.ehlo).await?;
    match (&opening.tls, connection.capabilities.start_tls) {
        (Ok(connector), true) => connection.start_tls(connector, opening.server, opening.ehlo).await?,
        (Ok(_), false) => connection.tls_note = Some("not offered".into()),
        (Err(why), _) => connection.tls_note = Some(why.clone()),
    }
    Ok(connection)
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = source {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    async fn hello(&mut self, name: &str) -> Result<(), Failure> {
        let reply = self.command(&format!("EHLO {name}")).await?;
        if reply.code == 250 {
            self.capabilities = capabilities(&reply.text);
            return Ok(());
        }
        let reply = self.command(&format!("HELO {name}")).await?;
        if reply.code == 250 { Ok(()) } else { Err(Failure { reply, local: false, tls: false }) }
    }

    async fn start_tls(
        &mut self,
        connector: &TlsConnector,
        server: &crate::dns::Server,
        ehlo: &str,
    ) -> Result<(), Failure> {
        let reply = self.command("STARTTLS").await?;
        if reply.code != 220 {
            self.tls_note = Some(format!("refused: {reply}"));
            return Ok(());
        }
        let tls_failure =
            |text: String| Failure { reply: local(451, (4, 7, 5), text), local: true, tls: true };
        if !self.input.is_empty() {
            return Err(tls_failure("The server sent data behind its answer to STARTTLS".into()));
        }
        let Wire::Plain(_) = &self.wire else { return Ok(()) };
        let name = ServerName::try_from(server.name.clone())
            .unwrap_or_else(|_| ServerName::from(server.address.ip()));
        let Wire::Plain(stream) = std::mem::replace(&mut self.wire, Wire::Plain(unconnected()?)) else {
            return Ok(());
        };
        let handshake = tokio::time::timeout(self.timeouts.connect, connector.connect(name, stream)).await;
        let stream = match handshake {
            Err(_) => return Err(tls_failure("The TLS handshake took too long".into())),
            Ok(Err(error)) => return Err(tls_failure(format!("The TLS handshake failed: {error}"))),
            Ok(Ok(stream)) => stream,
        };
        self.tls = Some(negotiated(&stream));
        self.wire = Wire::Tls(Box::new(stream));
        self.hello(ehlo).await
    }

    /// Sends a message. However it ends, each recipient has a reply.
    pub async fn send(&mut self, mail: &Mail<'_>) -> Sent {
        self.messages += 1;
        let mut content_sent = false;
        match self.transaction(mail, &mut content_sent).await {
            Ok(sent) => sent,
            Err(failure) => Sent {
                replies: vec![(failure.reply, failure.local); mail.recipients.len()],
                reusable: false,
                before_content: !content_sent,
            },
        }
    }

    async fn transaction(&mut self, mail: &Mail<'_>, content_sent: &mut bool) -> Result<Sent, Failure> {
        let pipelining = self.capabilities.pipelining;
        let mut commands = format!("MAIL FROM:{}\r\n", mail.mail);
        let mail_reply;
        let mut replies = Vec::with_capacity(mail.recipients.len());
        if pipelining {
            for recipient in &mail.recipients {
                commands.push_str(&format!("RCPT TO:{recipient}\r\n"));
            }
            commands.push_str("DATA\r\n");
            self.write(commands.as_bytes(), self.timeouts.command).await?;
            mail_reply = self.reply(self.timeouts.command).await?;
            for _ in &mail.recipients {
                replies.push(self.reply(self.timeouts.command).await?);
            }
        } else {
            self.write(commands.as_bytes(), self.timeouts.command).await?;
            mail_reply = self.reply(self.timeouts.command).await?;
            if !mail_reply.is_positive() {
                return Ok(Sent {
                    reusable: self.reset().await,
                    replies: vec![(mail_reply, false); mail.recipients.len()],
                    before_content: false,
                });
            }
            for recipient in &mail.recipients {
                replies.push(self.command(&format!("RCPT TO:{recipient}")).await?);
            }
            if replies.iter().all(|reply| !reply.is_positive()) {
                return Ok(Sent {
                    reusable: self.reset().await,
                    replies: replies.into_iter().map(|r| (r, false)).collect(),
                    before_content: false,
                });
            }
            self.write(b"DATA\r\n", self.timeouts.command).await?;
        }
        let data_reply = self.reply(self.timeouts.command).await?;
        let any_recipient = replies.iter().any(SmtpReply::is_positive);
        if data_reply.code != 354 {
            let reusable = !is_closing(&data_reply) && self.reset().await;
            return Ok(Sent {
                replies: merge(&mail_reply, replies, &data_reply),
                reusable,
                before_content: false,
            });
        }
        if !any_recipient || !mail_reply.is_positive() {
            // The peer took DATA with nobody to send to: an empty message goes nowhere (RFC 2920 3.1).
            self.write(b".\r\n", self.timeouts.command).await?;
            let end = self.reply(self.timeouts.data).await?;
            return Ok(Sent {
                replies: merge(&mail_reply, replies, &end),
                reusable: !is_closing(&end),
                before_content: false,
            });
        }
        *content_sent = true;
        self.write_message(mail).await?;
        match self.reply(self.timeouts.data).await {
            Ok(end) => Ok(Sent {
                reusable: !is_closing(&end),
                replies: merge(&mail_reply, replies, &end),
                before_content: false,
            }),
            // Recipients that were refused before stay refused.
            Err(failure) => Ok(Sent {
                replies: replies
                    .into_iter()
                    .map(|r| if r.is_positive() { (failure.reply.clone(), true) } else { (r, false) })
                    .collect(),
                reusable: false,
                before_content: false,
            }),
        }
    }

    async fn write_message(&mut self, mail: &Mail<'_>) -> Result<(), Failure> {
        let mut stuffer = crate::stuffing::Stuffer::default();
        let mut out = Vec::with_capacity((mail.head.len() + mail.body.len() + 1024).min(WRITE_BYTES * 2));
        for part in [mail.head, mail.body] {
            for piece in part.chunks(WRITE_BYTES) {
                stuffer.take(piece, &mut out);
                if out.len() >= WRITE_BYTES {
                    self.write(&out, self.timeouts.data).await?;
                    out.clear();
                }
            }
        }
        stuffer.finish(&mut out);
        self.write(&out, self.timeouts.data).await
    }

    async fn reset(&mut self) -> bool {
        matches!(self.command("RSET").await, Ok(reply) if reply.code == 250)
    }

    /// Says goodbye; the answer is not waited for long.
    pub async fn quit(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.command("QUIT")).await;
    }

    async fn command(&mut self, line: &str) -> Result<SmtpReply, Failure> {
        self.write(format!("{line}\r\n").as_bytes(), self.timeouts.command).await?;
        self.reply(self.timeouts.command).await
    }

    async fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Failure> {
        let peer = self.peer;
        let writing = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        match tokio::time::timeout(timeout, writing).await {
            Err(_) => Err(Failure::of(format!("{peer} takes no more data"))),
            Ok(Err(error)) => Err(Failure::of(format!("The connection to {peer} broke: {error}"))),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Reads one reply, all its lines.
    async fn reply(&mut self, timeout: Duration) -> Result<SmtpReply, Failure> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut lines: Vec<String> = Vec::new();
        let mut code = 0;
        loop {
            let line = self.reply_line(deadline).await?;
            let (this_code, last, text) =
                parse_line(&line).ok_or_else(|| Failure::of(format!("{} sent no SMTP reply", self.peer)))?;
            if !lines.is_empty() && this_code != code {
                return Err(Failure::of(format!("{} changed its reply code between lines", self.peer)));
            }
            code = this_code;
            lines.push(text);
            if last {
                return Ok(assemble(code, &lines));
            }
            if lines.len() >= MAX_LINES {
                return Err(Failure::of(format!("{} sent a reply without end", self.peer)));
            }
        }
    }

    async fn reply_line(&mut self, deadline: tokio::time::Instant) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line = self.input.split_to(end + 1);
                return Ok(line.trim_ascii_end().to_vec());
            }
            if self.input.len() > MAX_LINE {
                return Err(Failure::of(format!("{} sent a line without end", self.peer)));
            }
            self.input.reserve(1024);
            match tokio::time::timeout_at(deadline, self.wire.read_buf(&mut self.input)).await {
                Err(_) => return Err(Failure::of(format!("{} does not answer", self.peer))),
                Ok(Ok(0)) => return Err(Failure::of(format!("{} closed the connection", self.peer))),
                Ok(Err(error)) => {
                    return Err(Failure::of(format!("The connection to {} broke: {error}", self.peer)));
                }
                Ok(Ok(_)) => {}
            }
        }
    }

    /// The peer said something, or closed, while nothing was asked: the connection is of no more use.
    pub async fn went_away(&mut self) {
        if self.input.has_remaining() {
            return;
        }
        // Whatever comes, data or the end, it is the end.
        let _ = self.wire.read_buf(&mut self.input).await;
    }
}

fn is_closing(reply: &SmtpReply) -> bool {
    reply.code == 421
}

/// Each recipient's reply: that of MAIL or RCPT when it was refused there, else that of the end of the message.
fn merge(mail: &SmtpReply, recipients: Vec<SmtpReply>, end: &SmtpReply) -> Vec<(SmtpReply, bool)> {
    let pick = |reply: SmtpReply| match (mail.is_positive(), reply.is_positive()) {
        (false, _) => mail.clone(),
        (true, false) => reply,
        (true, true) => end.clone(),
    };
    recipients.into_iter().map(|reply| (pick(reply), false)).collect()
}

/// Code, whether it is the last line, and the text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let code = std::str::from_utf8(line.get(..3)?)
        .ok()?
        .parse::<u16>()
        .ok()
        .filter(|code| (200..600).contains(code))?;
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
    Some((code, last, text.chars().filter(|c| !c.is_control()).collect()))
}

fn assemble(code: u16, lines: &[String]) -> SmtpReply {
    let first_word = |line: &str| line.split(' ').next().and_then(|word| word.parse().ok());
    let enhanced = lines.first().and_then(|line| first_word(line));
    let strip = |line: &String| match line.split_once(' ') {
        Some((word, rest)) if enhanced.is_some() && word.parse::<schemas::EnhancedCode>().is_ok() => {
            rest.to_owned()
        }
        _ => line.clone(),
    };
    SmtpReply { code, enhanced, text: lines.iter().map(strip).collect::<Vec<_>>().join("\n") }
}

fn capabilities(text: &str) -> Capabilities {
    let mut found = Capabilities::default();
    for line in text.split('\n').skip(1) {
        let mut words = line.split_whitespace();
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            Some("PIPELINING") => found.pipelining = true,
            Some("8BITMIME") => found.eight_bit_mime = true,
            Some("SMTPUTF8") => found.smtputf8 = true,
            Some("DSN") => found.dsn = true,
            Some("STARTTLS") => found.start_tls = true,
            Some("SIZE") => found.size = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0),
            _ => {}
        }
    }
    found
}

fn negotiated(stream: &TlsStream<TcpStream>) -> Tls {
    let (_, connection) = stream.get_ref();
    Tls {
        version: connection
            .protocol_version()
            .and_then(|v| v.as_str())
            .unwrap_or("unknown")
            .replace('_', "."),
        cipher: connection
            .negotiated_cipher_suite()
            .and_then(|c| c.suite().as_str())
            .unwrap_or("unknown")
            .to_owned(),
        verified: false,
    }
}

/// Stands in for the stream while it is being wrapped.
fn unconnected() -> Result<TcpStream, Failure> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let made = socket.and_then(|socket| {
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket.into())
    });
    made.map_err(|error| Failure::of(format!("no socket can be had: {error}")))
}

/// TLS without a demand on the certificate: what is encrypted for a stranger is still encrypted (RFC 7435).
#[must_use]
pub fn opportunistic_tls() -> TlsConnector {
    #[derive(Debug)]
    struct AnyCertificate(rustls::crypto::CryptoProvider);

    impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                cert,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                cert,
                dss,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider that is built in supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_strictly() {
        assert_eq!(parse_line(b"250-x"), Some((250, false, "x".into())));
        assert_eq!(parse_line(b"250"), Some((250, true, String::new())));
        for bad in [&b"25"[..], b"abc x", b"2500 x", b"199 x", b"600 x", b""] {
            assert_eq!(parse_line(bad), None, "{bad:?}");
        }
        let reply = assemble(550, &["5.1.1 no".into(), "5.1.1 such user".into()]);
        assert_eq!(
            (reply.to_string().as_str(), reply.enhanced),
            ("550 5.1.1 no such user", Some(schemas::EnhancedCode(5, 1, 1)))
        );
    }

    #[test]
    fn the_end_counts_for_those_who_were_taken() {
        let r = |code| SmtpReply { code, enhanced: None, text: String::new() };
        let codes = |mail, rcpt: &[u16], end| -> Vec<u16> {
            merge(&r(mail), rcpt.iter().map(|c| r(*c)).collect(), &r(end))
                .into_iter()
                .map(|(reply, _)| reply.code)
                .collect()
        };
        assert_eq!(codes(250, &[250, 550, 450], 250), [250, 550, 450]);
        assert_eq!(codes(250, &[250, 550], 451), [451, 550]);
        assert_eq!(codes(550, &[503, 503], 503), [550, 550]);
    }
}
