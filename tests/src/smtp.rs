//! An SMTP client that sends what it is told, byte by byte.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain as SockDomain, Socket, Type};

/// A connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn connect(port: u16) -> std::io::Result<(Self, String)> {
        Self::connect_to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The same from another address of the machine. (Bound to the one that servers of the tests listen at, it could take the
    /// port of one that is just being started again.)
    ///
    /// # Errors
    /// When the connection fails.
    pub fn connect_from(source: Ipv4Addr, port: u16) -> std::io::Result<(Self, String)> {
        let socket = Socket::new(SockDomain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        Self::over(TcpStream::from(socket))
    }

    /// The same to any address.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn connect_to(address: SocketAddr) -> std::io::Result<(Self, String)> {
        Self::over(TcpStream::connect(address)?)
    }

    fn over(stream: TcpStream) -> std::io::Result<(Self, String)> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut client = Client { reader: BufReader::new(stream) };
        let greeting = client.reply()?;
        Ok((client, greeting))
    }

    /// The bare connection.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one reply, all its lines.
    ///
    /// # Errors
    /// When the connection fails or ends.
    pub fn reply(&mut self) -> std::io::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// Sends a line and reads its reply.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn command(&mut self, line: &str) -> std::io::Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// EHLO, MAIL, RCPT and DATA; the message is dot-stuffed. The reply to the end of it, or the first that refused.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn deliver(&mut self, from: &str, to: &[&str], message: &[u8]) -> std::io::Result<String> {
        let reply = self.command(&format!("MAIL FROM:<{from}>"))?;
        if !reply.starts_with('2') {
            return Ok(reply);
        }
        for recipient in to {
            let reply = self.command(&format!("RCPT TO:<{recipient}>"))?;
            if !reply.starts_with('2') {
                return Ok(reply);
            }
        }
        let reply = self.command("DATA")?;
        if !reply.starts_with('3') {
            return Ok(reply);
        }
        self.send(&stuffed(message))?;
        self.reply()
    }
}

/// The message as it goes over the wire after DATA.
#[must_use]
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    let mut line_start = true;
    for byte in message {
        if line_start && *byte == b'.' {
            out.push(b'.');
        }
        line_start = *byte == b'\n';
        out.push(*byte);
    }
    if !line_start {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// One message over a connection of its own.
///
/// # Errors
/// When the connection fails.
pub fn send(port: u16, from: &str, to: &[&str], message: &[u8]) -> std::io::Result<String> {
    let (mut client, greeting) = Client::connect(port)?;
    if !greeting.starts_with("220") {
        return Ok(greeting);
    }
    client.command("EHLO client.example")?;
    let reply = client.deliver(from, to, message)?;
    // The answer is in.
    let _ = client.command("QUIT");
    Ok(reply)
}

/// A small message with an id of its own.
#[must_use]
pub fn message(from: &str, to: &str, subject: &str, body: &str) -> Vec<u8> {
    let id: u64 = rand::random();
    format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: <{id:016x}@client.example>\r\n\r\n{body}\r\n",
        date()
    )
    .into_bytes()
}

/// The date now, as `date -R` says it.
#[must_use]
pub fn date() -> String {
    let output = std::process::Command::new("date").arg("-R").output().expect("date");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
