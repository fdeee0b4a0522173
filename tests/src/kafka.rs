//! A real Kafka broker: `tests/kafka/cluster`, which ends with this process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// One broker on loopback.
pub struct Kafka {
    pub broker: String,
    process: Child,
    _directory: TempDir,
}

impl Kafka {
    /// # Panics
    /// When it does not start: run tests/kafka/install.
    #[must_use]
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/cluster");
        let directory = tempfile::Builder::new().prefix("mailweir-kafka-").tempdir().expect("a directory");
        let mut process = Command::new(script)
            .arg(directory.path())
            .arg("1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/kafka/cluster starts (needs python3)");
        let mut ready = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut ready).expect("its output is read");
        let broker = ready.trim().strip_prefix("ready ").unwrap_or_default().to_owned();
        assert!(!broker.is_empty(), "no Kafka, see above; run tests/kafka/install");
        Kafka { broker, process, _directory: directory }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The end of its input is its end.
        self.process.stdin = None;
        let _ = self.process.wait();
    }
}
