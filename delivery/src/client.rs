//! SMTP as a client (RFC 5321): one connection, one message at a time, pipelined where the peer allows it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::pki_types::ServerName;
use schemas::SmtpReply;
use schemas::envelope::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::outcome::local;
pub use crate::reply::Capabilities;
use crate::reply::{self, MAX_LINE, MAX_LINES};
use crate::tls::ClientTls;
use crate::wire::Wire;

/// Dot-stuffed bytes gathered before a write.
const WRITE_BYTES: usize = 64 << 10;
/// How long a peer that takes no more of a message may need to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    pub command: Duration,
    pub data: Duration,
}

/// A connection after EHLO.
pub struct Connection {
    wire: Wire,
    input: BytesMut,
    timeouts: Timeouts,
    pub peer: SocketAddr,
    pub capabilities: Capabilities,
    pub tls: Option<Tls>,
    /// Why there is no TLS.
    pub tls_note: Option<String>,
    /// Transactions so far.
    pub messages: usize,
}

/// What goes into a transaction.
pub struct Mail<'a> {
    /// `<path>` and parameters of MAIL.
    pub mail: String,
    /// `<path>` and parameters of each RCPT.
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

    /// RFC 5321 4.3.2: not an answer to what was asked.
    fn out_of_turn(peer: SocketAddr, to: &str, reply: &SmtpReply) -> Self {
        let text = format!("{peer} answered {} to {to}", reply.code);
        Failure { reply: local(451, (4, 5, 0), text), local: true, tls: false }
    }
}

/// The result of a transaction: a reply for each recipient, and whether the connection may be used again.
pub struct Sent {
    /// Each with whether it is ours.
    pub replies: Vec<(SmtpReply, bool)>,
    pub reusable: bool,
    /// The peer ended the connection before any of the message was sent.
    pub before_content: bool,
    /// It took at least one recipient.
    pub took_any: bool,
}

/// How to open a connection.
pub struct Opening<'a> {
    pub server: &'a crate::dns::Server,
    pub source: Option<IpAddr>,
    pub ehlo: &'a str,
    pub timeouts: Timeouts,
    /// `Err`: no TLS on this one, and why.
    pub tls: Result<&'a ClientTls, String>,
}

/// Connects, greets, and starts TLS where the peer offers it.
///
/// # Errors
/// What happened, as a reply.
pub async fn open(opening: Opening<'_>) -> Result<Connection, Failure> {
    let address = opening.server.address;
    let unreachable = |text: String| Failure { reply: local(451, (4, 4, 1), text), local: true, tls: false };
    let connecting = connect(address, opening.source);
    let stream = match tokio::time::timeout(opening.timeouts.connect, connecting).await {
        Err(_) => return Err(unreachable(format!("No answer from {address}"))),
        Ok(Err(error)) => return Err(unreachable(format!("{address} cannot be reached: {error}"))),
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
        return Err(refused(greeting));
    }
    connection.hello(opening.ehlo).await?;
    match (&opening.tls, connection.capabilities.start_tls) {
        (Ok(tls), true) => connection.start_tls(tls, opening.server, opening.ehlo).await?,
        (Ok(_), false) => connection.tls_note = Some("not offered".into()),
        (Err(why), _) => connection.tls_note = Some(why.clone()),
    }
    Ok(connection)
}

fn refused(reply: SmtpReply) -> Failure {
    Failure { reply: reply::cut(reply, usize::MAX), local: false, tls: false }
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

/// What a transaction has been answered so far.
#[derive(Default)]
struct Answers {
    mail: Option<SmtpReply>,
    recipients: Vec<SmtpReply>,
    content_sent: bool,
}

impl Answers {
    fn mail_refused(&self) -> Option<&SmtpReply> {
        self.mail.as_ref().filter(|reply| !is_taken(reply))
    }

    fn took_any(&self) -> bool {
        self.mail_refused().is_none() && self.recipients.iter().any(is_taken)
    }

    /// Each recipient's reply: that of MAIL or RCPT when it was refused there, else that of the end.
    fn each(self, count: usize, end: &SmtpReply, end_is_local: bool) -> Vec<(SmtpReply, bool)> {
        let refusal = self.mail_refused().cloned();
        let of = |index: usize| match (&refusal, self.recipients.get(index)) {
            (Some(mail), _) => (mail.clone(), false),
            (None, Some(reply)) if !is_taken(reply) => (reply.clone(), false),
            _ => (end.clone(), end_is_local),
        };
        (0..count).map(of).collect()
    }
}

impl Connection {
    async fn hello(&mut self, name: &str) -> Result<(), Failure> {
        let reply = self.command(&format!("EHLO {name}")).await?;
        if reply.code == 250 {
            self.capabilities = reply::capabilities(&reply.text);
            return Ok(());
        }
        self.capabilities = Capabilities::default();
        let reply = self.command(&format!("HELO {name}")).await?;
        if reply.code == 250 { Ok(()) } else { Err(refused(reply)) }
    }

    async fn start_tls(
        &mut self,
        tls: &ClientTls,
        server: &crate::dns::Server,
        ehlo: &str,
    ) -> Result<(), Failure> {
        let tls_failure =
            |text: String| Failure { reply: local(451, (4, 7, 5), text), local: true, tls: true };
        let reply = self.command("STARTTLS").await.map_err(|failure| Failure { tls: true, ..failure })?;
        if reply.code != 220 {
            self.tls_note = Some(format!("refused: {}", reply::cut(reply, 200)));
            return Ok(());
        }
        if !self.input.is_empty() {
            return Err(tls_failure("The server sent data behind its answer to STARTTLS".into()));
        }
        let name = ServerName::try_from(server.name.clone())
            .unwrap_or_else(|_| ServerName::from(server.address.ip()));
        let stream = match std::mem::replace(&mut self.wire, Wire::Gone) {
            Wire::Plain(stream) => stream,
            other => {
                self.wire = other;
                return Ok(());
            }
        };
        let handshake = tokio::time::timeout(self.timeouts.connect, tls.connect(name, stream)).await;
        let (stream, negotiated) = match handshake {
            Err(_) => return Err(tls_failure("The TLS handshake took too long".into())),
            Ok(Err(error)) => return Err(tls_failure(format!("The TLS handshake failed: {error}"))),
            Ok(Ok(done)) => done,
        };
        self.tls = Some(negotiated);
        self.wire = Wire::Tls(Box::new(stream));
        self.hello(ehlo).await.map_err(|failure| Failure { tls: failure.local, ..failure })
    }

    /// Sends a message. However it ends, each recipient has a reply.
    pub async fn send(&mut self, mail: &Mail<'_>) -> Sent {
        self.messages += 1;
        let mut answers = Answers::default();
        let result = self.transaction(mail, &mut answers).await;
        let (end, end_is_local, reusable) = match result {
            Ok((end, reusable)) => (end, false, reusable),
            Err(failure) => (failure.reply, failure.local, false),
        };
        let closing = end_is_local || answers.mail_refused().is_some_and(is_closing);
        Sent {
            reusable,
            before_content: closing && !answers.content_sent,
            took_any: answers.took_any(),
            replies: answers
                .each(mail.recipients.len(), &end, end_is_local)
                .into_iter()
                .map(|(reply, is_local)| (reply::cut(reply, usize::MAX), is_local))
                .collect(),
        }
    }

    /// The reply that ends the transaction, and whether the connection may be used again.
    async fn transaction(
        &mut self,
        mail: &Mail<'_>,
        answers: &mut Answers,
    ) -> Result<(SmtpReply, bool), Failure> {
        if self.capabilities.pipelining {
            self.pipelined(mail, answers).await?;
        } else if let Some(end) = self.one_by_one(mail, answers).await? {
            return Ok((end, self.reset().await));
        }
        let data = self.reply(self.timeouts.command).await?;
        if data.code != 354 {
            if data.code < 400 {
                // To take this for an answer would be to believe that a message was taken that was never sent.
                return Err(Failure::out_of_turn(self.peer, "DATA", &data));
            }
            let reusable = !is_closing(&data) && self.reset().await;
            return Ok((data, reusable));
        }
        if !answers.took_any() {
            // The peer took DATA with nobody to send to: an empty message goes nowhere (RFC 2920 3.1).
            self.write(b".\r\n", self.timeouts.command).await?;
            let end = self.reply(self.timeouts.data).await?;
            let reusable = !is_closing(&end);
            return Ok((end, reusable));
        }
        answers.content_sent = true;
        if let Err(failure) = self.write_message(mail).await {
            // A peer that has enough may say so and close: what it said counts.
            return match self.reply(LAST_WORDS).await {
                Ok(end) if end.code >= 400 => Ok((end, false)),
                _ => Err(failure),
            };
        }
        let end = self.reply(self.timeouts.data).await?;
        if (300..400).contains(&end.code) {
            return Err(Failure::out_of_turn(self.peer, "the end of the message", &end));
        }
        let reusable = !is_closing(&end);
        Ok((end, reusable))
    }

    async fn pipelined(&mut self, mail: &Mail<'_>, answers: &mut Answers) -> Result<(), Failure> {
        let mut commands = format!("MAIL FROM:{}\r\n", mail.mail);
        for recipient in &mail.recipients {
            commands.push_str("RCPT TO:");
            commands.push_str(recipient);
            commands.push_str("\r\n");
        }
        commands.push_str("DATA\r\n");
        self.write(commands.as_bytes(), self.timeouts.command).await?;
        answers.mail = Some(self.answer("MAIL").await?);
        for _ in &mail.recipients {
            let reply = self.answer("RCPT").await?;
            answers.recipients.push(reply);
        }
        Ok(())
    }

    /// As far as DATA; the reply to end with when nobody was taken.
    async fn one_by_one(
        &mut self,
        mail: &Mail<'_>,
        answers: &mut Answers,
    ) -> Result<Option<SmtpReply>, Failure> {
        self.write(format!("MAIL FROM:{}\r\n", mail.mail).as_bytes(), self.timeouts.command).await?;
        let reply = self.answer("MAIL").await?;
        answers.mail = Some(reply.clone());
        if !is_taken(&reply) {
            return Ok(Some(reply));
        }
        for recipient in &mail.recipients {
            self.write(format!("RCPT TO:{recipient}\r\n").as_bytes(), self.timeouts.command).await?;
            let reply = self.answer("RCPT").await?;
            answers.recipients.push(reply);
        }
        if !answers.took_any() {
            return Ok(answers.recipients.last().cloned());
        }
        self.write(b"DATA\r\n", self.timeouts.command).await?;
        Ok(None)
    }

    /// The reply to MAIL or RCPT: 2yz, 4yz or 5yz.
    async fn answer(&mut self, to: &str) -> Result<SmtpReply, Failure> {
        let reply = self.reply(self.timeouts.command).await?;
        if (300..400).contains(&reply.code) {
            return Err(Failure::out_of_turn(self.peer, to, &reply));
        }
        Ok(reply)
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

    /// Reads one reply, all its lines, before `timeout` is over.
    async fn reply(&mut self, timeout: Duration) -> Result<SmtpReply, Failure> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut lines: Vec<String> = Vec::new();
        let mut code = 0;
        loop {
            let line = self.reply_line(deadline).await?;
            let (this_code, last, text) = reply::parse_line(&line)
                .ok_or_else(|| Failure::of(format!("{} sent no SMTP reply", self.peer)))?;
            if !lines.is_empty() && this_code != code {
                return Err(Failure::of(format!("{} changed its reply code between lines", self.peer)));
            }
            code = this_code;
            lines.push(text);
            if last {
                return Ok(reply::assemble(code, &lines));
            }
            if lines.len() >= MAX_LINES {
                return Err(Failure::of(format!("{} sent a reply without end", self.peer)));
            }
        }
    }

    async fn reply_line(&mut self, deadline: tokio::time::Instant) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input).filter(|end| *end <= MAX_LINE) {
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

/// 2yz alone: 3yz is a positive reply too, but not to MAIL or RCPT.
fn is_taken(reply: &SmtpReply) -> bool {
    (200..300).contains(&reply.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_for_those_who_were_taken() {
        let reply = |code| SmtpReply { code, enhanced: None, text: String::new() };
        let codes = |mail, rcpt: &[u16], end| -> Vec<u16> {
            let answers = Answers {
                mail: Some(reply(mail)),
                recipients: rcpt.iter().map(|code| reply(*code)).collect(),
                content_sent: true,
            };
            answers.each(3, &reply(end), false).into_iter().map(|(reply, _)| reply.code).collect()
        };
        assert_eq!(codes(250, &[250, 550, 450], 250), [250, 550, 450]);
        assert_eq!(codes(250, &[250, 550], 451), [451, 550, 451], "one was not answered before the end");
        assert_eq!(codes(550, &[503, 503], 503), [550, 550, 550]);
    }
}
