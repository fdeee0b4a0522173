//! A real Kafka broker: `tests/kafka/cluster`, which ends with this process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Brokers on loopback.
pub struct Kafka {
    /// The first of them.
    pub broker: String,
    pub brokers: Vec<String>,
    process: Child,
    answers: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Kafka {
    /// One broker.
    ///
    /// # Panics
    /// When it does not start: run tests/kafka/install.
    #[must_use]
    pub fn start() -> Self {
        Self::start_brokers(1)
    }

    /// # Panics
    /// When they do not start: run tests/kafka/install.
    #[must_use]
    pub fn start_brokers(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// One broker that wants TLS and a password: `mailweir`, `open sesame`.
    ///
    /// # Panics
    /// When it does not start: run tests/kafka/install.
    #[must_use]
    pub fn start_secured() -> Self {
        Self::start_with(1, &["sasl_ssl"])
    }

    /// The root that certificates of secured brokers lead to.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn start_with(count: usize, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/cluster");
        let directory = tempfile::Builder::new().prefix("mailweir-kafka-").tempdir().expect("a directory");
        let mut process = Command::new(script)
            .arg(directory.path())
            .arg(count.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/kafka/cluster starts (needs python3)");
        let mut ready = String::new();
        let mut answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        answers.read_line(&mut ready).expect("its output is read");
        let brokers = ready.trim().strip_prefix("ready ").unwrap_or_default();
        assert!(!brokers.is_empty(), "no Kafka, see above; run tests/kafka/install");
        let brokers: Vec<String> = brokers.split(',').map(str::to_owned).collect();
        Kafka { broker: brokers[0].clone(), brokers, process, answers, directory }
    }

    /// `kill 2`, `start 2`, as tests/kafka/cluster takes it; broker numbers count from 1.
    ///
    /// # Panics
    /// When it is not done.
    pub fn order(&mut self, order: &str) {
        let input = self.process.stdin.as_mut().expect("its input is piped");
        writeln!(input, "{order}").expect("it takes orders");
        let mut done = String::new();
        self.answers.read_line(&mut done).expect("its output is read");
        assert_eq!(done.trim(), "done", "{order}");
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The end of its input is its end.
        self.process.stdin = None;
        let _ = self.process.wait();
    }
}
