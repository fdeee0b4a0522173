//! The `mailweir` command as a process: started, asked, killed, started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{certificate, ports, wait};

/// A node in a directory of its own.
pub struct Mailweir {
    pub directory: TempDir,
    /// STARTTLS offered.
    pub port: u16,
    pub http: u16,
    process: Option<Child>,
}

/// What a node is set up with, beyond what every test needs.
#[derive(Default)]
pub struct Setup<'a> {
    /// Lines of `[delivery]`.
    pub delivery: String,
    /// Lines of `[scorer]`, and tables of `[scorer.*]`.
    pub scorer: String,
    /// Lines of `[ingress]`.
    pub ingress: String,
    /// Lines of `[log]` after `min_free`.
    pub log: String,
    /// Lines of `[[ingress.listener]]` after bind and tls.
    pub listener: String,
    /// What is logged; `info` when it is not given.
    pub filter: Option<&'a str>,
    /// Lines of `[logging]`.
    pub logging: String,
    /// In place of the directory of its own: a file system that the test made.
    pub data_dir: Option<&'a Path>,
}

impl Mailweir {
    /// The binary under test.
    #[must_use]
    pub fn binary() -> PathBuf {
        let target = || {
            PathBuf::from(
                std::env::var("CARGO_TARGET_DIR")
                    .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").into()),
            )
        };
        std::env::var("MAILWEIR_BIN").map_or_else(|_| target().join("release/mailweir"), PathBuf::from)
    }

    /// Writes the configuration and starts the node; `settings` is applied once it answers.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(setup: &Setup<'_>, settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-test-").tempdir().expect("a directory");
        let (port, http) = (ports::free(), ports::free());
        let (certificate, key) = certificate::make(directory.path(), "smtp.hoster.example");
        let data_dir = setup.data_dir.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let config = format!(
            "node = \"node1\"\ndata_dir = \"{}\"\n[log]\nmin_free = \"32MiB\"\n{}\n[ingress]\nhostname = \"smtp.hoster.example\"\n{}\n\
             [[ingress.listener]]\nbind = \"127.0.0.1:{port}\"\ntls = \"starttls\"\n{}\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\
             [scorer]\n{}\n[delivery]\n{}\n[reporter]\nabuse_address = \"abuse@hoster.example\"\npublic_url = \"http://127.0.0.1:{http}/\"\n[http]\nbind = \"127.0.0.1:{http}\"\n[logging]\nfilter = \"{}\"\n{}\n",
            data_dir.display(),
            setup.log,
            setup.ingress,
            setup.listener,
            certificate.display(),
            key.display(),
            setup.scorer,
            setup.delivery,
            setup.filter.unwrap_or("info"),
            setup.logging,
        );
        std::fs::write(directory.path().join("mailweir.toml"), config).expect("the configuration");
        let mut node = Mailweir { directory, port, http, process: None };
        node.run();
        node.apply(settings);
        node
    }

    /// Starts the process and waits until it is healthy.
    ///
    /// # Panics
    /// When it is not within 20 s.
    pub fn run(&mut self) {
        self.spawn();
        wait::until("the node is healthy", Duration::from_secs(20), || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "mailweir ended with {ended:?}:\n{}", self.log_tail());
            self.get("/health").filter(|(status, _)| *status == 200)
        });
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&mut self) {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("its log");
        let binary = Self::binary();
        let process = Command::new(&binary)
            .args(["run", "--config"])
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} cannot be started ({error}): build it first, or run tests/run", binary.display())
            });
        self.process = Some(process);
    }

    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("mailweir.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("mailweir.log")
    }

    /// Its log so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself, which the next start shows.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// `SIGTERM`; the exit status.
    ///
    /// # Panics
    /// When it does not end within 60 s.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        Command::new("kill").arg(process.id().to_string()).status().expect("kill");
        wait::until("the node stops", Duration::from_secs(60), || process.try_wait().ok().flatten()).code()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// `GET` of the `[http]` address: status and body; none while nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.http, path)
    }

    /// Status and body of a `POST` without a body.
    #[must_use]
    pub fn post(&self, path: &str) -> Option<(u16, String)> {
        ask_http(self.http, "POST", path)
    }

    /// Applies settings.
    ///
    /// # Panics
    /// When they are refused.
    pub fn apply(&self, settings: &str) {
        let file = self.directory.path().join("settings.toml");
        std::fs::write(&file, settings).expect("the settings");
        self.verb(&["apply", "--yes", &file.display().to_string()]);
    }

    /// What a message went through, once anything is known of it: statistics are a moment behind.
    ///
    /// # Panics
    /// When nothing is known of it within 20 s.
    #[must_use]
    pub fn trace(&self, id: &str) -> String {
        wait::until(&format!("the trace of {id}"), Duration::from_secs(20), || {
            let mut trace = Command::new(Self::binary());
            let output = trace.args(["trace", id, "--config"]).arg(self.config()).output().expect("mailweir");
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    /// Runs a verb of the command; its standard output.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new(Self::binary())
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .output()
            .expect("mailweir");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "mailweir {arguments:?}: {}\n{text}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log_tail()
        );
        text
    }

    /// Runs a verb whose output does not matter.
    pub fn verb(&self, arguments: &[&str]) {
        drop(self.ask(arguments));
    }

    /// Runs a verb with `--json`.
    ///
    /// # Panics
    /// When it fails or gives no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Lines of the message log.
    #[must_use]
    pub fn log_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let lines = self.json(&[&["log", "--limit", "100000"], arguments].concat());
        lines.as_array().cloned().unwrap_or_default()
    }

    /// Waits until every recipient in the log has a terminal outcome and there are `count` of them.
    ///
    /// # Panics
    /// When they have not within `limit`.
    pub fn wait_for_outcomes(&self, count: usize, limit: Duration) -> Vec<Value> {
        wait::until(&format!("{count} recipients have their outcome"), limit, || {
            let lines = self.log_lines(&[]);
            (lines.len() >= count && lines.iter().all(|line| line["outcome"] != "queued")).then_some(lines)
        })
    }
}

/// `GET` of a port on loopback: status and body; none while nobody answers.
#[must_use]
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask_http(port, "GET", path)
}

fn ask_http(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?))
}

impl Drop for Mailweir {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the node's log ends with\n{}", self.log_tail());
        }
    }
}
