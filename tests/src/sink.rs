//! A receiving server that misbehaves on purpose, and remembers every message byte for byte. What it does with a message
//! is said by the recipient's local-part: `ok`, `refuse`, `defer` (the first two tries), `never` (defers every time), `drop` (closes in the middle of DATA, the first two tries), `stall` (says nothing after DATA, once).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One message as it came over the wire: after unstuffing, and raw.
#[derive(Clone, Debug)]
pub struct Received {
    pub recipients: Vec<String>,
    pub message: Vec<u8>,
    /// Everything between DATA's 354 and the final dot, as it was on the wire.
    pub raw: Vec<u8>,
}

/// The server.
#[derive(Clone)]
pub struct Sink {
    pub port: u16,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    tries: Mutex<HashMap<String, u32>>,
    stopped: AtomicBool,
}

impl Sink {
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// At an address of its own, as `[::1]:2525`.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let local = listener.local_addr().expect("its address");
        let sink = Sink { port: local.port(), address: local, shared: Arc::default() };
        let accepting = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let serving = accepting.clone();
                // A session that breaks is the sender's to retry.
                std::thread::spawn(move || serving.session(stream).ok());
            }
        });
        sink
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everybody who received something, in order.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        let mut all: Vec<String> = self.received().into_iter().flat_map(|r| r.recipients).collect();
        all.sort();
        all
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How often something was tried before, this time included.
    fn tries(&self, what: &str) -> u32 {
        let mut tries = self.shared.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = tries.entry(what.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn session(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut reader = BufReader::new(stream);
        let say = |reader: &mut BufReader<TcpStream>, text: &str| {
            reader.get_mut().write_all(format!("{text}\r\n").as_bytes())
        };
        say(&mut reader, "220 sink.example ESMTP")?;
        let mut recipients: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => say(
                    &mut reader,
                    "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
                )?,
                "MAIL" | "RSET" => {
                    recipients.clear();
                    say(&mut reader, "250 2.1.0 ok")?;
                }
                "RCPT" => {
                    let path = line
                        .split_once('<')
                        .and_then(|(_, r)| r.split_once('>'))
                        .map_or("", |(p, _)| p)
                        .to_owned();
                    if path.starts_with("refuse") {
                        say(&mut reader, "550 5.1.1 no such user")?;
                    } else if path.starts_with("never") || path.starts_with("defer") && self.tries(&path) <= 2
                    {
                        say(&mut reader, "451 4.7.1 come again")?;
                    } else {
                        recipients.push(path);
                        say(&mut reader, "250 2.1.5 ok")?;
                    }
                }
                "DATA" if recipients.is_empty() => say(&mut reader, "554 5.5.1 nobody to send to")?,
                "DATA" => {
                    say(&mut reader, "354 go on")?;
                    let first = recipients[0].clone();
                    if first.starts_with("drop") && self.tries(&first) <= 2 {
                        let mut some = [0u8; 64];
                        reader.read_exact(&mut some)?;
                        return Ok(());
                    }
                    let raw = read_message(&mut reader)?;
                    if first.starts_with("stall") && self.tries(&first) == 1 {
                        // Says nothing until the sender gives up.
                        let mut rest = Vec::new();
                        return reader.read_to_end(&mut rest).map(drop);
                    }
                    let message = unstuffed(&raw);
                    let received = Received { recipients: std::mem::take(&mut recipients), message, raw };
                    self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
                    say(&mut reader, "250 2.0.0 kept")?;
                }
                "QUIT" => {
                    say(&mut reader, "221 2.0.0 bye")?;
                    return Ok(());
                }
                _ => say(&mut reader, "500 5.5.2 what?")?,
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The accepting thread holds one; the test the other.
        if Arc::strong_count(&self.shared) <= 2 {
            self.shared.stopped.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect(self.address);
        }
    }
}

fn read_message(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    loop {
        let start = raw.len();
        if reader.read_until(b'\n', &mut raw)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if &raw[start..] == b".\r\n" && (start == 0 || raw[..start].ends_with(b"\r\n")) {
            raw.truncate(start);
            return Ok(raw);
        }
    }
}

fn unstuffed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    out
}
