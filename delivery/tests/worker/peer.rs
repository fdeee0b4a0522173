//! A receiving server whose answers hang on the local-parts of its recipients: `ok`, `fail`, `later` (until `accept_all`),
//! `full` (one recipient per transaction), `wait` (no answer until `accept_all`), `drop` (closes after the dot).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What came in one transaction.
#[derive(Clone, Debug)]
pub struct Received {
    pub mail: String,
    pub recipients: Vec<String>,
    /// After unstuffing.
    pub content: String,
    /// Address of the client.
    pub from: std::net::IpAddr,
    pub ehlo: String,
}

/// What the peer does at STARTTLS.
#[derive(Clone, Copy, Debug)]
pub enum StartTls {
    Answers(&'static str),
    Drops,
    /// Says 220, and nothing more.
    Hangs,
}

pub struct Peer {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    capabilities: String,
    start_tls: StartTls,
    accept_all: AtomicBool,
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
}

impl Peer {
    /// Listens on a port of 127.0.0.1; `capabilities` in the answer to EHLO.
    pub async fn start(capabilities: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", capabilities).await
    }

    pub async fn start_at(address: &str, capabilities: &[&str]) -> Self {
        Self::start_with(address, capabilities, StartTls::Answers("502 5.5.1 what?")).await
    }

    /// One that offers STARTTLS, and this is what comes of it.
    pub async fn start_with_tls(start_tls: StartTls) -> Self {
        Self::start_with("127.0.0.1:0", &["PIPELINING", "STARTTLS"], start_tls).await
    }

    async fn start_with(address: &str, capabilities: &[&str], start_tls: StartTls) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut lines = String::from("250-mx.example");
        for capability in capabilities {
            lines.push_str(&format!("\r\n250-{capability}"));
        }
        lines.push_str("\r\n250 HELP\r\n");
        let state = Arc::new(State {
            capabilities: lines,
            start_tls,
            accept_all: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            received: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Peer { port, state }
    }

    pub fn accept_all(&self) {
        self.state.accept_all.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("not poisoned").clone()
    }

    /// The messages to this recipient.
    pub fn to(&self, recipient: &str) -> Vec<Received> {
        let is_to = |received: &Received| received.recipients.iter().any(|r| r.contains(recipient));
        self.received().into_iter().filter(is_to).collect()
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let from = stream.peer_addr().expect("an address").ip();
    let mut stream = BufReader::new(stream);
    let (mut mail, mut ehlo, mut recipients) = (String::new(), String::new(), Vec::new());
    let mut answer = String::from("220 mx.example\r\n");
    loop {
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let Some(line) = read_line(&mut stream).await else { return };
        let upper = line.to_ascii_uppercase();
        answer = if let Some(name) = upper.strip_prefix("EHLO ") {
            ehlo = name.to_ascii_lowercase();
            state.capabilities.clone()
        } else if upper == "STARTTLS" {
            match state.start_tls {
                StartTls::Answers(line) => format!("{line}\r\n"),
                StartTls::Drops => return,
                StartTls::Hangs => {
                    let _ = stream.write_all(b"220 2.0.0 go on\r\n").await;
                    while read_line(&mut stream).await.is_some() {}
                    return;
                }
            }
        } else if upper.starts_with("MAIL FROM:") {
            mail = line["MAIL FROM:".len()..].to_owned();
            recipients.clear();
            "250 2.1.0 ok\r\n".into()
        } else if upper.starts_with("RCPT TO:") {
            let to = line["RCPT TO:".len()..].to_owned();
            while to.starts_with("<wait") && !state.accept_all.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            let accepts = state.accept_all.load(Ordering::SeqCst);
            match to.trim_start_matches('<') {
                name if name.starts_with("fail") => "550 5.1.1 no such user\r\n".into(),
                name if name.starts_with("later") && !accepts => "450 4.2.1 later\r\n".into(),
                name if name.starts_with("full") && !recipients.is_empty() => "452 4.5.3 too many\r\n".into(),
                _ => {
                    recipients.push(to);
                    "250 2.1.5 ok\r\n".into()
                }
            }
        } else if upper == "DATA" {
            if recipients.is_empty() {
                "503 5.5.1 nobody\r\n".into()
            } else {
                let _ = stream.write_all(b"354 go\r\n").await;
                let Some(content) = read_content(&mut stream).await else { return };
                let drops = recipients.iter().any(|r| r.starts_with("<drop"));
                let received = Received {
                    mail: mail.clone(),
                    recipients: std::mem::take(&mut recipients),
                    content,
                    from,
                    ehlo: ehlo.clone(),
                };
                state.received.lock().expect("not poisoned").push(received);
                if drops && !state.accept_all.load(Ordering::SeqCst) {
                    return;
                }
                "250 2.0.0 queued\r\n".into()
            }
        } else if upper == "QUIT" {
            let _ = stream.write_all(b"221 bye\r\n").await;
            return;
        } else {
            "250 2.0.0 ok\r\n".into()
        };
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    match stream.read_until(b'\n', &mut line).await {
        Ok(n) if n > 0 => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
        _ => None,
    }
}

async fn read_content(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut content = String::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            return Some(content);
        }
        let line = line.strip_prefix(b".").unwrap_or(&line);
        content.push_str(&String::from_utf8_lossy(line));
    }
}
