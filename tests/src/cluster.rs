//! A cluster: two nodes of separate processes on brokers of Kafka, statistics in ClickHouse, delivering to one receiver.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::clickhouse::ClickHouse;
use crate::kafka::Kafka;
use crate::process::Process;
use crate::sink::Sink;
use crate::{ports, wait};

const PATIENCE: Duration = Duration::from_secs(180);

/// Two nodes, each role a process of its own, on real brokers and a real ClickHouse.
pub struct Cluster {
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
    pub sink: Sink,
    /// By node and roles.
    pub processes: BTreeMap<(&'static str, &'static str), Process>,
    /// Where the ingresses listen.
    pub doors: [u16; 2],
    directory: TempDir,
}

impl Cluster {
    /// Starts everything, with these settings.
    ///
    /// # Panics
    /// When something does not start.
    #[must_use]
    pub fn start(brokers: usize, settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-test-").tempdir().expect("a directory");
        let users = directory.path().join("users.xml");
        std::fs::write(&users, "<clickhouse><users></users></clickhouse>").expect("no more users");
        let mut cluster = Cluster {
            kafka: Kafka::start_brokers(brokers),
            clickhouse: ClickHouse::start(&users),
            sink: Sink::start(),
            processes: BTreeMap::new(),
            doors: [ports::free(), ports::free()],
            directory,
        };
        cluster.run("node1", "reporter,control");
        cluster.apply(settings);
        for node in ["node1", "node2"] {
            for role in ["scorer", "delivery", "ingress"] {
                cluster.run(node, role);
            }
        }
        cluster.run("node2", "reporter");
        cluster.doors.into_iter().for_each(wait::for_port);
        cluster
    }

    fn run(&mut self, node: &'static str, roles: &'static str) {
        let directory = self.directory.path().join(node);
        std::fs::create_dir_all(&directory).expect("the node's directory");
        let process = Process::start(&directory, &self.config(&directory, node, roles), roles);
        self.processes.insert((node, roles), process);
    }

    fn config(&self, directory: &Path, node: &str, roles: &str) -> String {
        let brokers: Vec<String> = self.kafka.brokers.iter().map(|broker| format!("\"{broker}\"")).collect();
        let door = self.doors[usize::from(node == "node2")];
        let listener = match roles {
            "ingress" => format!("[[ingress.listener]]\nbind = \"127.0.0.1:{door}\"\ntls = \"none\"\n"),
            _ => String::new(),
        };
        format!(
            "node = \"{node}\"\ndata_dir = \"{}/{roles}\"\ncluster_key_file = \"{}/cluster.key\"\n\
             [log]\nengine = \"kafka\"\nbrokers = [{}]\npartitions = 4\nreplication = {}\n\
             [ingress]\nhostname = \"smtp.hoster.example\"\n{listener}\
             [delivery]\nrelay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]\ndata_timeout = \"3s\"\n\
             [reporter]\nabuse_address = \"abuse@hoster.example\"\n\
             [statistics]\nclickhouse = \"http://127.0.0.1:{}/mailweir\"\n",
            directory.display(),
            self.directory.path().display(),
            brokers.join(", "),
            brokers.len(),
            self.sink.port,
            self.clickhouse.port,
        )
    }

    /// # Panics
    /// When there is none.
    pub fn process(&mut self, node: &'static str, roles: &'static str) -> &mut Process {
        self.processes.get_mut(&(node, roles)).expect("it runs")
    }

    /// The process that answers verbs.
    #[must_use]
    pub fn control(&self) -> &Process {
        &self.processes[&("node1", "reporter,control")]
    }

    fn apply(&self, settings: &str) {
        let file = self.directory.path().join("settings.toml");
        std::fs::write(&file, settings).expect("the settings");
        wait::until("the settings are applied", PATIENCE, || {
            let apply = self.control().verb(&["apply", "--yes", &file.display().to_string()]);
            apply.status.success().then_some(())
        });
    }

    /// Rows of a verb that answers in JSON; none while it cannot.
    #[must_use]
    pub fn rows(&self, arguments: &[&str]) -> Option<Vec<Value>> {
        let answer = self.control().verb(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&answer.stdout).ok()
    }

    /// What the statistics say when nothing is under way any more.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    #[must_use]
    pub fn outcomes(&self, count: usize, limit: Duration) -> Vec<Value> {
        wait::until(&format!("{count} recipients have their outcome"), limit, || {
            let rows = self.rows(&["log", "--limit", "100000"])?;
            let is_over = rows.len() >= count && rows.iter().all(|row| row["outcome"] != "queued");
            is_over.then_some(rows)
        })
    }
}
