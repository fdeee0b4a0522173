//! A real name server (NSD) on loopback, serving the zones of a test.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::{ports, wait};

/// NSD with its zones.
pub struct NameServer {
    pub port: u16,
    directory: TempDir,
    process: Child,
}

impl NameServer {
    /// Serves `zones`: name and records (zone file lines; SOA and NS are added).
    ///
    /// # Panics
    /// When NSD cannot be started: run tests/install.
    #[must_use]
    pub fn start(zones: &[(&str, String)]) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-nsd-").tempdir().expect("a directory");
        let port = ports::free();
        let path = directory.path();
        let mut config = format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{0}\"\n  database: \"\"\n  pidfile: \"{0}/nsd.pid\"\n  \
             xfrdfile: \"{0}/xfrd\"\n  zonelistfile: \"{0}/zone.list\"\n  cookie-secret-file: \"{0}/cookie\"\n  xfrdir: \"{0}\"\n  verbosity: 0\n  server-count: 1\nremote-control:\n  control-enable: no\n",
            path.display()
        );
        for (name, records) in zones {
            let zone = format!(
                "$ORIGIN {name}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n{records}\n"
            );
            std::fs::write(path.join(format!("{name}.zone")), zone).expect("the zone");
            config.push_str(&format!("zone:\n  name: \"{name}\"\n  zonefile: \"{name}.zone\"\n"));
        }
        std::fs::write(path.join("nsd.conf"), config).expect("nsd.conf");
        let process = Command::new("nsd")
            .arg("-d")
            .arg("-c")
            .arg(path.join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsd is installed (tests/install)");
        wait::for_port(port);
        NameServer { port, directory, process }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // NSD's children end with it on SIGTERM.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// Stands before a name server, and can be told to be silent or to stand before another one. UDP only.
pub struct Gate {
    pub port: u16,
    shared: Arc<GateShared>,
}

#[derive(Default)]
struct GateShared {
    silent: AtomicBool,
    behind: AtomicU16,
    questions: Mutex<Vec<Vec<u8>>>,
}

impl Gate {
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn before(server: &NameServer) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let port = socket.local_addr().expect("its address").port();
        let shared = Arc::new(GateShared::default());
        let gate = Gate { port, shared: Arc::clone(&shared) };
        gate.stand_before(server);
        std::thread::spawn(move || {
            let mut packet = [0u8; 4096];
            while let Ok((len, client)) = socket.recv_from(&mut packet) {
                let (question, shared, socket) =
                    (packet[..len].to_vec(), Arc::clone(&shared), Arc::clone(&socket));
                shared.questions.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
                if !shared.silent.load(Ordering::Relaxed) {
                    std::thread::spawn(move || shared.pass(&question, &socket, client).ok());
                }
            }
        });
        gate
    }

    /// From now on to this one.
    pub fn stand_before(&self, server: &NameServer) {
        self.shared.behind.store(server.port, Ordering::Relaxed);
    }

    /// Whether it answers nobody.
    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// How many questions there were with this label.
    #[must_use]
    pub fn questions_with(&self, label: &str) -> usize {
        let wire = [&[label.len() as u8], label.as_bytes()].concat();
        let questions = self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions
            .iter()
            .filter(|q| q.windows(wire.len()).any(|part| part.eq_ignore_ascii_case(&wire)))
            .count()
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl GateShared {
    fn pass(&self, question: &[u8], back: &UdpSocket, client: std::net::SocketAddr) -> std::io::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        server.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        server.send_to(question, ("127.0.0.1", self.behind.load(Ordering::Relaxed)))?;
        let mut packet = [0u8; 4096];
        let len = server.recv(&mut packet)?;
        back.send_to(&packet[..len], client)?;
        Ok(())
    }
}
