//! One connection: its bytes, its time-outs, TLS, and the session's actions carried out.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use schemas::envelope::{Client, Tls};
use schemas::{EnhancedCode, Envelope, MessageId, SmtpReply};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::ListenerTls;
use crate::accept::Incoming;
use crate::data::{LineEnds, Unstuffer};
use crate::listener::Shared;
use crate::metrics::Reason;
use crate::proxy::{self, Parsed};
use crate::session::{Action, AuthResult, Options, Session, TOO_MANY_CONNECTIONS, Transaction, World};
use crate::slots::Slot;

/// One read takes at most this many bytes while a message comes.
const READ_BYTES: usize = 32 << 10;
/// What a session that waits for a command keeps.
const IDLE_BYTES: usize = 1 << 10;
/// A handshake or PROXY header must be done within this.
const OPENING: Duration = Duration::from_secs(30);

/// A connection as it came in.
pub struct Door {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub tls: ListenerTls,
    pub auth_without_tls: bool,
    pub expect_proxy_header: bool,
}

/// The bytes of a connection, plain or under TLS.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection being served.
struct Connection {
    shared: Arc<Shared>,
    wire: Wire,
    client: SocketAddr,
    slot: Slot,
    session: Session,
    input: BytesMut,
    output: Vec<u8>,
    /// A message that comes in chunks (BDAT).
    chunked: Option<(Incoming, LineEnds)>,
}

/// Why a connection ends; none of it is an error of ours.
enum End {
    Closed,
    Io(std::io::Error),
    Timeout,
    ShuttingDown,
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        End::Io(error)
    }
}

/// Serves a connection to its end.
pub async fn serve(door: Door, shared: Arc<Shared>) {
    shared.metrics.connections.inc();
    let peer = door.peer;
    let end = tokio::select! {
        end = Box::pin(serve_to_end(door, &shared)) => end,
        () = shared.cut_off.cancelled() => Err(End::ShuttingDown),
    };
    shared.metrics.connections.dec();
    match end {
        Err(End::Io(error)) => tracing::debug!(%peer, %error, "connection ended"),
        Err(End::Timeout) => tracing::debug!(%peer, "connection timed out"),
        _ => {}
    }
}

async fn serve_to_end(mut door: Door, shared: &Arc<Shared>) -> Result<(), End> {
    // Replies are small and must not wait for one another.
    door.stream.set_nodelay(true)?;
    let Some(admission) = shared.admit() else {
        let refusal = SmtpReply::new(421, EnhancedCode(4, 3, 2), "Too many connections, try again later");
        shared.note(door.peer.ip(), None, "too_many_connections", refusal);
        // No handshake for a TLS client either: this is no time for more work.
        door.stream.write_all(b"421 4.3.2 Too many connections, try again later\r\n").await?;
        return Ok(());
    };
    let mut client = door.peer;
    if door.expect_proxy_header {
        let header = within(OPENING, read_proxy_header(&mut door.stream)).await?;
        if let Some(named) = header {
            client = SocketAddr::new(named.ip().to_canonical(), named.port());
        }
    }
    let slot = shared.slot(admission, client.ip()).await;
    let mut wire = Wire::Plain(door.stream);
    let mut tls = None;
    if door.tls == ListenerTls::Implicit {
        (wire, tls) = within(OPENING, start_tls(wire, shared)).await?;
    }
    let Ok(slot) = slot else {
        let text = TOO_MANY_CONNECTIONS;
        let refusal = SmtpReply { code: 421, enhanced: None, text: text.into() };
        shared.note(client.ip(), None, "too_many_connections", refusal);
        return within(OPENING, refuse_connection(&mut wire, text)).await;
    };
    let options = Options {
        hostname: shared.config.hostname.clone(),
        can_start_tls: door.tls == ListenerTls::StartTls,
        auth_without_tls: door.auth_without_tls,
        max_errors: shared.config.limits.errors,
        max_recipients: shared.config.limits.recipients,
    };
    let session = Session::new(options, client.ip(), tls);
    let mut connection = Connection {
        shared: Arc::clone(shared),
        wire,
        client,
        slot,
        session,
        input: BytesMut::new(),
        output: Vec::new(),
        chunked: None,
    };
    connection.run().await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(End::Timeout))
}

/// The words agreed upon, which have no enhanced status code, and the end.
async fn refuse_connection(wire: &mut Wire, text: &str) -> Result<(), End> {
    wire.write_all(format!("421 {text}\r\n").as_bytes()).await?;
    Ok(wire.shutdown().await?)
}

/// Reads the header and not one octet more.
async fn read_proxy_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, End> {
    let mut header = Vec::new();
    loop {
        match proxy::parse(&header) {
            Parsed::Header { client, .. } => return Ok(client),
            Parsed::Malformed => return Err(End::Closed),
            Parsed::Incomplete => {
                let missing = proxy::missing(&header) as u64;
                if (&mut *stream).take(missing).read_buf(&mut header).await? == 0 {
                    return Err(End::Closed);
                }
            }
        }
    }
}

async fn start_tls(wire: Wire, shared: &Shared) -> Result<(Wire, Option<Tls>), End> {
    let (Wire::Plain(stream), Some(certificate)) = (wire, &shared.certificate) else {
        return Err(End::Closed);
    };
    let stream = certificate.acceptor().accept(stream).await?;
    let (_, connection) = stream.get_ref();
    let version =
        connection.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown").replace('_', ".");
    let cipher =
        connection.negotiated_cipher_suite().and_then(|c| c.suite().as_str()).unwrap_or("unknown").to_owned();
    Ok((Wire::Tls(Box::new(stream)), Some(Tls { version, cipher, verified: false })))
}

impl Shared {
    /// Books a refusal.
    pub fn note(&self, ip: IpAddr, login: Option<&str>, reason: &'static str, reply: SmtpReply) {
        self.metrics.refused.get_or_create(&Reason { reason }).inc();
        self.refusals.note(ip, login, reason, reply, self.clock.now());
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), End> {
        let farewell = match self.converse().await {
            Err(End::Timeout) => SmtpReply::new(421, EnhancedCode(4, 4, 2), "Timeout, closing"),
            Err(End::ShuttingDown) => {
                SmtpReply::new(421, EnhancedCode(4, 3, 2), "Closing for a restart, try again")
            }
            end => return end,
        };
        if farewell.enhanced == Some(EnhancedCode(4, 4, 2)) {
            self.shared.note(self.client.ip(), self.session.login(), "timeout", farewell.clone());
        }
        // What a client did not take in time it will not take now.
        self.output.clear();
        self.say(&farewell);
        within(Duration::from_secs(5), self.flush_now()).await
    }

    async fn converse(&mut self) -> Result<(), End> {
        self.say(&self.session.greeting());
        loop {
            self.flush().await?;
            let actions = self.next_line().await?;
            if !self.carry_out(actions).await? {
                return self.flush().await;
            }
            // Replies to pipelined commands leave together.
            while let Some(actions) = self.buffered_line() {
                if !self.carry_out(actions).await? {
                    return self.flush().await;
                }
                if self.output.len() > READ_BYTES {
                    self.flush().await?;
                }
            }
        }
    }

    /// Waits for a line and gives it to the session.
    async fn next_line(&mut self) -> Result<Vec<Action>, End> {
        let deadline = tokio::time::Instant::now() + self.shared.config.limits.command_timeout;
        loop {
            if let Some(actions) = self.buffered_line() {
                return Ok(actions);
            }
            if self.input.len() > self.line_limit() {
                self.skip_line(deadline).await?;
                return Ok(self.session.line_too_long());
            }
            if self.input.is_empty() && self.input.capacity() > READ_BYTES {
                self.input = BytesMut::new();
            }
            self.input.reserve(IDLE_BYTES);
            let shutdown = self.shared.shutdown.clone();
            tokio::select! {
                biased;
                read = tokio::time::timeout_at(deadline, self.wire.read_buf(&mut self.input)) => match read {
                    Err(_) => return Err(End::Timeout),
                    Ok(Ok(0)) => return Err(End::Closed),
                    Ok(read) => { read?; }
                },
                () = shutdown.cancelled() => return Err(End::ShuttingDown),
            }
        }
    }

    fn line_limit(&self) -> usize {
        let limits = &self.shared.config.limits;
        if self.session.in_auth()
            || self.input.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
        {
            limits.auth_line
        } else {
            limits.command_line
        }
    }

    /// Reads on to the end of a line that is too long.
    async fn skip_line(&mut self, deadline: tokio::time::Instant) -> Result<(), End> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                self.input.advance(end + 1);
                return Ok(());
            }
            self.input.clear();
            match tokio::time::timeout_at(deadline, self.wire.read_buf(&mut self.input)).await {
                Err(_) => return Err(End::Timeout),
                Ok(Ok(0)) => return Err(End::Closed),
                Ok(read) => {
                    read?;
                }
            }
        }
    }

    /// What the session makes of the next line, if a whole one is there.
    fn buffered_line(&mut self) -> Option<Vec<Action>> {
        let end = memchr::memchr(b'\n', &self.input)?;
        if end + 1 > self.line_limit() {
            self.input.advance(end + 1);
            return Some(self.session.line_too_long());
        }
        let line = self.input.split_to(end + 1);
        let Some(line) = line.strip_suffix(b"\r\n") else { return Some(self.session.bare_line_end()) };
        if !self.input.is_empty() && self.session.must_wait_after(line) {
            return Some(self.session.out_of_step());
        }
        let not_accepting = self.shared.gate.shut().map(|shut| {
            tracing::debug!(%shut, "no mail is taken in");
            shut.for_client()
        });
        let settings = self.shared.settings.read();
        let senders = self.shared.senders.read();
        let world =
            World { settings: &settings, senders: &senders, now: self.shared.clock.now(), not_accepting };
        Some(self.session.line(line, &world))
    }

    /// Carries out what the session wants; `false`: the connection is to be closed.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<bool, End> {
        if let Some((reason, reply)) = self.session.take_refusal() {
            self.shared.note(self.client.ip(), self.session.login(), reason, reply);
        }
        for action in actions {
            match action {
                Action::Reply(reply) => self.say(&reply),
                Action::Close => return Ok(false),
                Action::StartTls => {
                    if !self.upgrade().await? {
                        return Ok(false);
                    }
                }
                Action::CheckPassword { login, password } => {
                    self.flush().await?;
                    let result =
                        match self.shared.authenticator.check(self.client.ip(), &login, password).await {
                            AuthResult::Good(login) if !self.slot.log_in(&login).await => {
                                AuthResult::TooManyConnections
                            }
                            result => result,
                        };
                    let actions = self.session.authenticated(result);
                    if !Box::pin(self.carry_out(actions)).await? {
                        return Ok(false);
                    }
                }
                Action::ReceiveMessage => {
                    self.flush().await?;
                    self.receive_message().await?;
                }
                Action::ReceiveChunk { size, last } => self.receive_chunk(size, last).await?,
                Action::DiscardChunk { size } => self.discard(size).await?,
            }
        }
        if self.session.transaction().is_none_or(|t| !t.in_chunks) {
            self.chunked = None;
        }
        Ok(true)
    }

    /// STARTTLS. What came behind the command in clear is an injection: the connection ends (RFC 3207 4.2).
    async fn upgrade(&mut self) -> Result<bool, End> {
        if !self.input.is_empty() {
            self.output.clear();
            let refusal = SmtpReply::new(
                554,
                EnhancedCode(5, 5, 1),
                "Nothing may follow STARTTLS before the handshake",
            );
            self.shared.note(self.client.ip(), None, "starttls_injection", refusal.clone());
            self.say(&refusal);
            return Ok(false);
        }
        self.flush().await?;
        let wire = std::mem::replace(&mut self.wire, Wire::Plain(placeholder()?));
        let (wire, tls) = within(OPENING, start_tls(wire, &self.shared)).await?;
        self.wire = wire;
        if let Some(tls) = tls {
            self.session.tls_started(tls);
        }
        Ok(true)
    }

    async fn receive_message(&mut self) -> Result<(), End> {
        let Some(mut incoming) = self.incoming() else { return Ok(()) };
        let mut unstuffer = Unstuffer::default();
        let deadline = tokio::time::Instant::now() + self.shared.config.limits.message_timeout;
        loop {
            if self.input.is_empty() {
                self.read_more(deadline).await?;
            }
            let taken = unstuffer.take(&self.input, &mut incoming.buffer);
            self.input.advance(taken.consumed);
            incoming.received(&self.shared.log).await;
            if taken.done {
                break;
            }
        }
        if unstuffer.has_bare_line_end() {
            incoming.found_bare_line_end();
        }
        self.finish(incoming).await
    }

    async fn receive_chunk(&mut self, size: u64, last: bool) -> Result<(), End> {
        self.flush().await?;
        let (mut incoming, mut line_ends) = match self.chunked.take() {
            Some(chunked) => chunked,
            None => match self.incoming() {
                Some(incoming) => (incoming, LineEnds::default()),
                None => return self.discard(size).await,
            },
        };
        let deadline = tokio::time::Instant::now() + self.shared.config.limits.message_timeout;
        let mut left = size;
        while left > 0 {
            if self.input.is_empty() {
                self.read_more(deadline).await?;
            }
            let piece =
                self.input.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len()));
            left -= piece.len() as u64;
            line_ends.look(&piece);
            incoming.buffer.extend_from_slice(&piece);
            incoming.received(&self.shared.log).await;
        }
        if line_ends.has_bare(last) {
            incoming.found_bare_line_end();
        }
        if last {
            return self.finish(incoming).await;
        }
        self.chunked = Some((incoming, line_ends));
        let actions = self.session.chunk_done(size);
        self.say_all(actions);
        Ok(())
    }

    async fn discard(&mut self, size: u64) -> Result<(), End> {
        let deadline = tokio::time::Instant::now() + self.shared.config.limits.message_timeout;
        let mut left = size;
        while left > 0 {
            if self.input.is_empty() {
                self.flush().await?;
                self.read_more(deadline).await?;
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
            self.input.advance(taken);
            left -= taken as u64;
        }
        Ok(())
    }

    async fn read_more(&mut self, deadline: tokio::time::Instant) -> Result<(), End> {
        self.input.reserve(READ_BYTES);
        let limit = deadline.min(tokio::time::Instant::now() + self.shared.config.limits.data_timeout);
        match tokio::time::timeout_at(limit, self.wire.read_buf(&mut self.input)).await {
            Err(_) => Err(End::Timeout),
            Ok(Ok(0)) => Err(End::Closed),
            Ok(read) => read.map(|_| ()).map_err(End::from),
        }
    }

    fn incoming(&self) -> Option<Incoming> {
        let transaction = self.session.transaction()?;
        let id = MessageId::new(self.shared.clock.now());
        let max_bytes = transaction.user.effective.max_message_bytes;
        Some(Incoming::new(id, max_bytes, transaction.envelope_bytes, Arc::clone(&self.shared.room)))
    }

    /// The message is complete: append it, wait for the verdict, answer.
    async fn finish(&mut self, incoming: Incoming) -> Result<(), End> {
        if let Some(problem) = incoming.problem() {
            let actions = self.session.message_refused(problem);
            if let Some((reason, reply)) = self.session.take_refusal() {
                self.shared.note(self.client.ip(), self.session.login(), reason, reply);
            }
            self.say_all(actions);
            return Ok(());
        }
        let Some(transaction) = self.session.transaction() else { return Ok(()) };
        let id = incoming.id;
        let size_bytes = incoming.size_bytes();
        let waiting = self.shared.verdicts.expect(id);
        let envelope = self.envelope(transaction, id, waiting.is_some());
        let began = Instant::now();
        let answer = match incoming.append(&self.shared.log, envelope).await {
            Ok(_) => {
                self.shared.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
                self.shared.metrics.accepted.inc();
                self.shared.metrics.accepted_bytes.inc_by(size_bytes);
                let verdict = match waiting {
                    Some(waiting) => self.verdict(waiting).await,
                    None => None,
                };
                verdict
                    .unwrap_or_else(|| SmtpReply::new(250, EnhancedCode(2, 0, 0), format!("queued as {id}")))
            }
            Err(error) => {
                tracing::warn!(message.id = %id, %error, "a message could not be stored, its client keeps it");
                let reply =
                    SmtpReply::new(451, EnhancedCode(4, 3, 0), "Mail cannot be stored now, try again later");
                self.shared.note(self.client.ip(), self.session.login(), "log_unavailable", reply.clone());
                reply
            }
        };
        let actions = self.session.message_done(answer);
        self.say_all(actions);
        Ok(())
    }

    async fn verdict(&self, waiting: crate::verdict::Waiting) -> Option<SmtpReply> {
        let began = Instant::now();
        let verdict = waiting.reply().await;
        self.shared.metrics.verdict_seconds.observe(began.elapsed().as_secs_f64());
        if verdict.is_none() {
            self.shared.metrics.verdict_timeouts.inc();
        }
        verdict
    }

    fn envelope(&self, transaction: &Transaction, id: MessageId, waits: bool) -> Envelope {
        Envelope {
            id,
            accepted_at: self.shared.clock.now(),
            node: self.shared.config.node.clone(),
            reply_partition: waits.then(|| self.shared.verdicts.partition()),
            user: transaction.user.id.clone(),
            domain: transaction.user.domain.clone(),
            client: Client {
                address: self.client,
                helo: self.session.helo().to_owned(),
                protocol: self.session.protocol(),
                login: transaction.user.login.clone(),
                tls: self.session.tls().cloned(),
            },
            reverse_path: transaction.reverse_path.clone(),
            recipients: transaction.recipients.clone(),
            ret: transaction.ret,
            envid: transaction.envid.clone(),
            body_type: transaction.body_type,
            smtputf8: transaction.smtputf8,
            size_bytes: 0, // set when appended
            chunks: Vec::new(),
            origin: None,
        }
    }

    fn say_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Reply(reply) = action {
                self.say(&reply);
            }
        }
    }

    /// Writes a reply into the output: `250-2.0.0 line`, CRLF.
    fn say(&mut self, reply: &SmtpReply) {
        use std::io::Write;
        let mut lines = reply.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            // Writing to a Vec cannot fail.
            let _ = match reply.enhanced {
                Some(enhanced) => write!(self.output, "{}{separator}{enhanced} {line}\r\n", reply.code),
                None => write!(self.output, "{}{separator}{line}\r\n", reply.code),
            };
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let limit = self.shared.config.limits.data_timeout;
        within(limit, self.flush_now()).await
    }

    async fn flush_now(&mut self) -> Result<(), End> {
        self.wire.write_all(&self.output).await?;
        self.wire.flush().await?;
        if self.output.capacity() > IDLE_BYTES {
            self.output = Vec::new();
        }
        self.output.clear();
        Ok(())
    }
}

/// Stands in for the stream while it is being wrapped; nothing reads or writes it.
fn placeholder() -> Result<TcpStream, End> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket.into())?)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
