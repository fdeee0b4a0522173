//! A receiving server that is broken, or up to something, in one way; else it takes mail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// 421 in place of the greeting.
    GreetsWith421,
    /// Answers EHLO, and closes at the next command.
    DropsAfterEhlo,
    /// Says yes to STARTTLS, and then speaks no TLS.
    FailsHandshake,
    /// Sends more replies behind its answer to STARTTLS, in the same packet (the response injection of CVE-2021-38371).
    InjectsBehindStartTls,
}

/// The server.
#[derive(Clone)]
pub struct Hostile {
    pub port: u16,
    trick: Trick,
    connections: Arc<AtomicUsize>,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
    /// What came after the trick on a connection that should have been given up.
    afterwards: Arc<Mutex<Vec<u8>>>,
}

impl Hostile {
    /// # Panics
    /// When the address cannot be had.
    #[must_use]
    pub fn start_at(address: &str, trick: Trick) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let server = Hostile {
            port: listener.local_addr().expect("its address").port(),
            trick,
            connections: Arc::default(),
            messages: Arc::default(),
            afterwards: Arc::default(),
        };
        let accepting = server.clone();
        // It lives as long as the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let serving = accepting.clone();
                // A session that breaks is the sender's to retry.
                std::thread::spawn(move || serving.session(stream).ok());
            }
        });
        server
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The messages it took, all in the clear.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a client sent over a connection after the trick was played on it.
    #[must_use]
    pub fn afterwards(&self) -> Vec<u8> {
        self.afterwards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn session(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut peer = BufReader::new(stream);
        if self.trick == Trick::GreetsWith421 {
            return peer.get_mut().write_all(b"421 4.3.2 not now\r\n");
        }
        peer.get_mut().write_all(b"220 mx.example ESMTP\r\n")?;
        let mut line = String::new();
        while peer.read_line(&mut line)? > 0 {
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let reply: &[u8] = match verb.as_str() {
                "EHLO" => b"250-mx.example\r\n250 STARTTLS\r\n",
                _ if self.trick == Trick::DropsAfterEhlo => return Ok(()),
                "STAR" => return self.start_tls(&mut peer),
                "DATA" => {
                    peer.get_mut().write_all(b"354 go on\r\n")?;
                    let mut message = Vec::new();
                    while !message.ends_with(b"\r\n.\r\n") && peer.read_until(b'\n', &mut message)? > 0 {}
                    self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                    b"250 2.0.0 kept\r\n"
                }
                "QUIT" => return peer.get_mut().write_all(b"221 2.0.0 bye\r\n"),
                _ => b"250 2.0.0 ok\r\n",
            };
            peer.get_mut().write_all(reply)?;
            line.clear();
        }
        Ok(())
    }

    fn start_tls(&self, peer: &mut BufReader<TcpStream>) -> std::io::Result<()> {
        if self.trick == Trick::FailsHandshake {
            peer.get_mut().write_all(b"220 2.0.0 go ahead\r\n")?;
            let mut hello = [0u8; 5];
            peer.read_exact(&mut hello)?;
            return peer.get_mut().write_all(b"500 5.5.1 that is no command\r\n");
        }
        peer.get_mut().write_all(
            b"220 2.0.0 go ahead\r\n250-mx.example\r\n250 AUTH PLAIN\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n",
        )?;
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest)?;
        self.afterwards.lock().unwrap_or_else(PoisonError::into_inner).extend(rest);
        Ok(())
    }
}
