//! Real Rspamd, spamd and clamd with configuration of their own: on loopback, without Redis, name servers or updates.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::{ports, wait};

/// What clamd finds beside the test file of anti-malware scanners.
pub const MARKER: &str = "mailweir-signature-of-our-own-7f3a";
/// The test file of anti-malware scanners, in two pieces.
pub const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");

/// One of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rspamd,
    Spamd,
    Clamd,
}

impl Kind {
    /// As metrics name it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Kind::Rspamd => "rspamd",
            Kind::Spamd => "spamassassin",
            Kind::Clamd => "clamav",
        }
    }
}

/// An engine that runs in a process group of its own.
pub struct Engine {
    pub kind: Kind,
    pub port: u16,
    directory: TempDir,
    process: Option<Child>,
}

impl Engine {
    /// # Panics
    /// When it cannot be started: run tests/install.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        Engine::start_with(kind, "")
    }

    /// With more lines at the end of its configuration.
    ///
    /// # Panics
    /// When it cannot be started: run tests/install.
    #[must_use]
    pub fn start_with(kind: Kind, more: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-engine-").tempdir().expect("a directory");
        let mut engine = Engine { kind, port: ports::free(), directory, process: None };
        match kind {
            Kind::Rspamd => engine.configure_rspamd(more),
            Kind::Spamd => engine.configure_spamd(more),
            Kind::Clamd => engine.configure_clamd(more),
        }
        engine.run();
        engine
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn run(&mut self) {
        let path = self.directory.path().display().to_string();
        let mut command = match self.kind {
            Kind::Rspamd => {
                let mut command = Command::new("rspamd");
                command.args(["--no-fork", "--insecure", "--config", &format!("{path}/rspamd.conf")]);
                for variable in ["DBDIR", "RUNDIR", "LOGDIR", "LOCAL_CONFDIR"] {
                    command.arg(format!("--var={variable}={path}"));
                }
                command
            }
            Kind::Spamd => {
                let mut command = Command::new("spamd");
                command.args(["--local", "--nouser-config", "--syslog", "stderr", "--max-children", "5"]);
                command.args(["--siteconfigpath", &path, "--configpath", "/usr/share/spamassassin"]);
                command.args(["--listen", "127.0.0.1", "--port", &self.port.to_string()]);
                command.arg(format!("--pidfile={path}/pid"));
                command
            }
            Kind::Clamd => {
                let mut command = Command::new("clamd");
                command.arg(format!("--config-file={path}/clamd.conf"));
                command
            }
        };
        let log = std::fs::File::create(self.directory.path().join("log")).expect("its log");
        let sbin = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let process = command
            .env("PATH", sbin)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} is installed (tests/install): {error}", self.kind));
        self.process = Some(process);
        let port = self.port;
        wait::until(&format!("{:?} listens", self.kind), Duration::from_secs(60), || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.log());
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("its configuration");
    }

    fn configure_rspamd(&self, more: &str) {
        // What needs Redis, a name server or the network is off.
        let off = [
            "rbl",
            "surbl",
            "fuzzy_check",
            "spf",
            "dkim",
            "arc",
            "dmarc",
            "asn",
            "mx_check",
            "phishing",
            "rspamd_update",
        ];
        let off: String = off.iter().map(|module| format!("{module} {{ enabled = false; }}\n")).collect();
        let port = self.port;
        self.write(
            "rspamd.conf",
            &format!(
                ".include \"$CONFDIR/common.conf\"\n\
                 options {{\n  .include \"$CONFDIR/options.inc\"\n  pidfile = \"$DBDIR/rspamd.pid\";\n  filters = \"chartable,regexp\";\n  \
                 dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.05s; retransmits = 1; }}\n}}\n\
                 logging {{ type = \"console\"; level = \"warning\"; }}\n\
                 worker \"normal\" {{ bind_socket = \"127.0.0.1:{port}\"; count = 1; }}\n{off}{more}"
            ),
        );
    }

    fn configure_spamd(&self, more: &str) {
        // Which plugins there are is said by the machine's own files.
        for file in std::fs::read_dir("/etc/spamassassin").expect("spamassassin is installed (tests/install)")
        {
            let file = file.expect("a file").path();
            if file.extension().is_some_and(|extension| extension == "pre") {
                let name = Path::new(file.file_name().expect("a name"));
                std::fs::copy(&file, self.directory.path().join(name)).expect("a copy");
            }
        }
        self.write("local.cf", &format!("use_bayes 0\n{more}"));
    }

    fn configure_clamd(&self, more: &str) {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        std::fs::create_dir(self.directory.path().join("db")).expect("its directory");
        let signatures = format!("Mailweir.Eicar:0:0:{}\nMailweir.Marker:0:*:{}\n", hex(EICAR), hex(MARKER));
        self.write("db/test.ndb", &signatures);
        let (path, port) = (self.directory.path().display(), self.port);
        self.write(
            "clamd.conf",
            &format!(
                "Foreground yes\nDatabaseDirectory {path}/db\nTCPAddr 127.0.0.1\nTCPSocket {port}\nStreamMaxLength 1M\nTemporaryDirectory {path}\n{more}"
            ),
        );
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Whether it has closed connections that the other side still keeps, and there are no others.
    ///
    /// # Panics
    /// When the machine does not say.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections of the machine");
        let port = format!(":{:04X}", self.port);
        let states = table.lines().filter_map(|line| {
            let mut columns = line.split_whitespace().skip(2);
            columns.next()?.ends_with(&port).then(|| columns.next())?
        });
        // As RFC 9293 calls them, ESTABLISHED and CLOSE-WAIT.
        let states: Vec<&str> = states.filter(|state| ["01", "08"].contains(state)).collect();
        states.contains(&"08") && !states.contains(&"01")
    }

    /// `STOP`, `CONT`, to all its processes.
    ///
    /// # Panics
    /// When there are none.
    pub fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("it runs");
        signal(process, name);
    }

    /// `kill -9`, all its processes.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, "KILL");
            let _ = process.wait();
        }
    }

    /// Kills it; whoever asks its port is then answered nonsense, until what is returned is dropped.
    ///
    /// # Panics
    /// When the port cannot be had.
    #[must_use]
    pub fn rave(&mut self) -> Raving {
        self.kill();
        Raving::at(self.port)
    }
}

fn signal(process: &Child, name: &str) {
    let group = format!("-{}", process.id());
    let status = Command::new("kill").args(["-s", name, "--", &group]).status().expect("kill");
    assert!(status.success(), "kill -s {name}");
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- {:?} ends with\n{}", self.kind, lines[lines.len().saturating_sub(8)..].join("\n"));
        }
        self.kill();
    }
}

/// A listener that answers everybody with nonsense, a different kind each time.
pub struct Raving {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Raving {
    fn at(port: u16) -> Self {
        let listener = wait::until("the port is free", Duration::from_secs(20), || listen(port).ok());
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut some = [0u8; 1024];
                    // It ends when the other side has had enough.
                    stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
                    let _ = stream.read(&mut some);
                    let _ = match number % 5 {
                        0 => stream.write_all(&vec![b'?'; 3_000_000]),
                        1 => stream.write_all(b"\0\0\xff\xff\0\r\n\r\n"),
                        2 => stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{\"score\":"),
                        3 => stream.write_all(b"SPAMD/1.1 0 EX_OK\r\nContent-length: 70\r\nSpam: False ;"),
                        _ => Ok(()),
                    };
                    while stream.read(&mut some).is_ok_and(|read| read > 0) {}
                });
            }
        });
        Raving { port, ended, thread: Some(thread) }
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

impl Drop for Raving {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
