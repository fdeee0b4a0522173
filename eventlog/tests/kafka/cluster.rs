//! A real Kafka cluster for the tests: `tests/kafka/cluster`, started once and ended with this process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use eventlog::kafka::KafkaConfig;
use tempfile::TempDir;

/// Brokers on loopback.
pub struct Cluster {
    pub brokers: Vec<String>,
    directory: TempDir,
    process: Mutex<Process>,
}

struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// Blocks until every broker answers.
    pub fn start(brokers: usize, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kafka/cluster");
        let directory =
            tempfile::Builder::new().prefix("mailweir-kafka-").tempdir().expect("a temporary directory");
        let mut child = Command::new(script)
            .arg(directory.path())
            .arg(brokers.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/kafka/cluster starts (needs python3)");
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut ready = String::new();
        answers.read_line(&mut ready).expect("its output is read");
        let brokers = ready.trim().strip_prefix("ready ").unwrap_or_default();
        assert!(!brokers.is_empty(), "no Kafka, see above; run tests/kafka/install");
        Cluster {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            directory,
            process: Mutex::new(Process { child, commands, answers }),
        }
    }

    /// One broker for all tests of this process that need nothing else.
    pub fn shared() -> &'static Cluster {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| Cluster::start(1, &[]))
    }

    /// A log of its own on it.
    pub fn config(&self, prefix: &str) -> KafkaConfig {
        KafkaConfig {
            prefix: prefix.to_owned(),
            partitions: 4,
            replication: u32::try_from(self.brokers.len()).expect("few"),
            ..KafkaConfig::new(self.brokers.clone())
        }
    }

    /// The certificate that its clients must trust.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// `kill 1`, `start 1`, `pause 1`, `resume 1`; returns when it is done.
    pub fn tell(&self, command: &str) {
        let mut process = self.process.lock().expect("no panic");
        let commands = process.commands.as_mut().expect("open until it is dropped");
        writeln!(commands, "{command}").expect("it runs");
        let mut done = String::new();
        process.answers.read_line(&mut done).expect("it answers");
        assert_eq!(done.trim(), "done", "{command}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let process = self.process.get_mut().expect("no panic");
        // The end of its input is its end; one in a static ends with this process in the same way.
        process.commands = None;
        let _ = process.child.wait();
    }
}

/// A prefix that no other test of this process has.
pub fn fresh_prefix() -> String {
    static LAST: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    format!("t{}.", LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}
