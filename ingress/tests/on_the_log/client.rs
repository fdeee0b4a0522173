//! An SMTP client that sends what it is told.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::node::Node;

/// Nothing here takes that long; a client that waits longer found a bug.
const PATIENCE: Duration = Duration::from_secs(20);

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Client<S: Stream = TcpStream> {
    stream: BufReader<S>,
}

pub async fn connected(node: &Node, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::from(from), 0)).expect("an address of loopback");
    socket.connect(node.smtp).await.expect("a connection")
}

impl Client {
    /// From 127.0.0.1, greeted.
    pub async fn connect(node: &Node) -> Self {
        Self::connect_from(node, [127, 0, 0, 1]).await
    }

    pub async fn connect_from(node: &Node, from: [u8; 4]) -> Self {
        let mut client = Client::over(connected(node, from).await);
        client.expect("220 smtp.hoster.example").await;
        client
    }
}

impl<S: Stream> Client<S> {
    pub fn over(stream: S) -> Self {
        Client { stream: BufReader::new(stream) }
    }

    pub fn into_stream(self) -> S {
        assert!(self.stream.buffer().is_empty(), "replies were left unread");
        self.stream.into_inner()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("it is sent");
        self.stream.flush().await.expect("it is sent");
    }

    /// The next reply, its lines joined by `\n`; empty at the end of the connection.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
            // A reset is an end, too: the server closed before it read everything.
            if read.expect("a reply in time").unwrap_or(0) == 0 {
                return reply;
            }
            reply.push_str(line.trim_end_matches("\r\n"));
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    pub async fn expect(&mut self, start: &str) -> String {
        let reply = self.reply().await;
        assert!(reply.starts_with(start), "the reply is `{reply}`, expected `{start}`");
        reply
    }

    /// Sends a line and expects its reply.
    pub async fn say(&mut self, line: &str, start: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        let reply = self.reply().await;
        assert!(reply.starts_with(start), "`{line}` is answered `{reply}`, expected `{start}`");
        reply
    }

    pub async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        let _ = read.expect("the connection is closed in time");
        assert!(rest.is_empty(), "more was said: {}", String::from_utf8_lossy(&rest));
    }

    /// EHLO and a transaction up to its recipient.
    pub async fn open(&mut self) {
        self.say("EHLO client.example", "250").await;
        self.say("MAIL FROM:<shop@customer.example>", "250 2.1.0").await;
        self.say("RCPT TO:<someone@elsewhere.example>", "250 2.1.5").await;
    }

    /// A whole message; the last reply.
    pub async fn deliver(&mut self, message: &str) -> String {
        self.open().await;
        self.say("DATA", "354").await;
        self.send(format!("{message}\r\n.\r\n").as_bytes()).await;
        self.reply().await
    }

    pub async fn auth_plain(&mut self, login: &str, password: &str) -> String {
        let response = STANDARD.encode(format!("\0{login}\0{password}"));
        self.send(format!("AUTH PLAIN {response}\r\n").as_bytes()).await;
        self.reply().await
    }
}
