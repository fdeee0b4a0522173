//! Each role in a process of its own, over one Kafka broker: what a client got its 250 for arrives, every message once,
//! also when a worker is killed in the middle and another takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use mailweir::roles::Role;
use mailweir_tests::clickhouse::ClickHouse;
use mailweir_tests::compose::{Compose, Service};
use mailweir_tests::kafka::Kafka;
use mailweir_tests::mailweir::get;
use mailweir_tests::process::Process;
use mailweir_tests::{ports, smtp, wait};
use tempfile::TempDir;

const MESSAGES: usize = 60;
const PATIENCE: Duration = Duration::from_secs(120);
const SETTINGS: &str = r#"
[[domain]]
name = "customer.example"
[[outgoing_user]]
domain = "customer.example"
ip = "127.0.0.1/32"
"#;

/// Postfix's `smtp-sink`, which writes every transaction to a file.
struct SmtpSink {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl SmtpSink {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = ports::free();
        let child = Command::new("/usr/sbin/smtp-sink")
            // It asks for a user when root starts it.
            .args(["-u", "root", "-d", "mail.", &format!("127.0.0.1:{port}"), "100"])
            .current_dir(directory.path())
            .spawn()
            .expect("smtp-sink: run tests/install");
        wait::for_port(port);
        SmtpSink { port, directory, child }
    }

    /// What follows `prefix` in the lines of what came.
    fn lines(&self, prefix: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).expect("its directory").flatten();
        let texts = files.map(|entry| std::fs::read(entry.path()).unwrap_or_default());
        let text: String = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
        text.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// How often each of our Message-IDs came.
    fn received(&self) -> BTreeMap<usize, usize> {
        let mut received = BTreeMap::new();
        for line in self.lines("Message-ID: <number-") {
            let number = line.split('@').next().and_then(|n| n.parse().ok()).expect("a number");
            *received.entry(number).or_default() += 1;
        }
        received
    }

    /// The addresses that mail came from.
    fn clients(&self) -> BTreeSet<String> {
        self.lines("X-Client-Addr: ").into_iter().collect()
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(port: u16, number: usize) {
    let to = format!("somebody{}@dest{}.example", number, number % 5);
    let message = format!(
        "From: app@customer.example\r\nTo: {to}\r\nSubject: number {number}\r\nDate: {}\r\nMessage-ID: <number-{number}@customer.example>\r\n\r\n{}",
        smtp::date(),
        "some text\r\n".repeat(10 + number % 50)
    );
    wait::until("it is accepted", PATIENCE, || {
        let reply = smtp::send(port, "app@customer.example", &[&to], message.as_bytes()).ok()?;
        assert!(!reply.starts_with('5'), "{reply}");
        reply.starts_with("250").then_some(())
    });
}

/// What the processes of `docker-compose.yml` stand on, beside Kafka.
struct Cluster {
    compose: Compose,
    secrets: Vec<(String, PathBuf)>,
    clickhouse: ClickHouse,
}

/// One of them, and where it listens.
struct Placed {
    process: Process,
    smtp: u16,
    http: u16,
}

/// The processes of a cluster: who runs what, over one broker, delivering to one sink.
struct Site {
    kafka: Kafka,
    /// How processes get in there.
    security: String,
    sink: SmtpSink,
    directory: TempDir,
    smtp_port: u16,
}

impl Site {
    fn new() -> Self {
        Self::on(Kafka::start(), String::new())
    }

    /// `security`: tables of the configuration.
    fn on(kafka: Kafka, security: String) -> Self {
        Site {
            kafka,
            security,
            sink: SmtpSink::start(),
            directory: tempfile::Builder::new().prefix("mailweir-test-").tempdir().expect("a directory"),
            smtp_port: ports::free(),
        }
    }

    fn start(&self, node: &str, roles: &'static str) -> Process {
        let directory = self.directory.path().join(node);
        std::fs::create_dir_all(&directory).expect("the node's directory");
        let listener = match roles {
            roles if roles.contains("ingress") => {
                format!("[[ingress.listener]]\nbind = \"127.0.0.1:{}\"\ntls = \"none\"", self.smtp_port)
            }
            _ => String::new(),
        };
        let config = format!(
            "node = \"{node}\"\ndata_dir = \"{0}/{roles}\"\ncluster_key_file = \"{1}/cluster.key\"\n[log]\nengine = \"kafka\"\n\
             brokers = [\"{2}\"]\npartitions = 4\nreplication = 1\n{4}\n[ingress]\nhostname = \"smtp.hoster.example\"\n{listener}\n\
             [delivery]\nrelay_host = \"127.0.0.1:{3}\"\nretry = [\"1s\"]\n[reporter]\nabuse_address = \"abuse@hoster.example\"\n",
            directory.display(),
            self.directory.path().display(),
            self.kafka.broker,
            self.sink.port,
            self.security,
        );
        Process::start(&directory, &config, roles)
    }

    /// The process that settings and questions go to, with the settings applied.
    fn start_control(&self) -> Process {
        let control = self.start("node1", "reporter,control");
        self.apply(&control, SETTINGS);
        control
    }

    fn apply(&self, control: &Process, settings: &str) {
        let file = self.directory.path().join("settings.toml");
        std::fs::write(&file, settings).expect("the settings");
        wait::until("the settings are applied", PATIENCE, || {
            let apply = control.verb(&["apply", "--yes", &file.display().to_string()]);
            apply.status.success().then_some(())
        });
    }

    /// A process of `docker-compose.yml`: its roles and its configuration, with peers and ports of this test.
    fn start_of_compose(&self, service: &Service<'_>, cluster: &Cluster) -> Placed {
        let directory = self.directory.path().join(service.name);
        std::fs::create_dir_all(&directory).expect("the process's directory");
        let config = service.config(&cluster.compose, &cluster.secrets, &directory.join("data"));
        let (smtp, http) = (ports::free(), ports::free());
        let brokers = r#"["kafka1:9092", "kafka2:9092", "kafka3:9092"]"#;
        assert!(config.contains(brokers) && config.contains("replication = 3"));
        let mut config = config
            .replace(brokers, &format!("[\"{}\"]", self.kafka.broker))
            .replace("replication = 3", "replication = 1")
            .replace("http://clickhouse:8123/", &format!("http://127.0.0.1:{}/", cluster.clickhouse.port))
            .replace("0.0.0.0:8025", &format!("127.0.0.1:{http}"));
        config.push_str(&format!("[delivery]\nrelay_host = \"127.0.0.1:{}\"\n", self.sink.port));
        let names = Role::ALL.map(Role::name);
        let role = names.into_iter().find(|name| service.list("command").contains(name)).expect("a role");
        if role == "ingress" {
            assert!(!config.contains("[[ingress.listener]]"), "those that are there without one");
            config.push_str(&format!("[[ingress.listener]]\nbind = \"127.0.0.1:{smtp}\"\n"));
        }
        Placed { process: Process::start(&directory, &config, role), smtp, http }
    }

    fn start_ingress(&self) -> Process {
        let ingress = self.start("node1", "ingress");
        wait::for_port(self.smtp_port);
        ingress
    }

    fn wait_until_each_arrived_once(&self, count: usize) {
        let received = wait::until("every message arrives", PATIENCE, || {
            let received = self.sink.received();
            (received.len() == count).then_some(received)
        });
        assert!(received.values().all(|times| *times == 1), "{received:?}");
    }
}

#[test]
fn each_role_in_a_process_of_its_own_and_every_message_arrives_once() {
    let site = Site::new();
    let mut control = site.start_control();
    let mut scorer = site.start("node1", "scorer");
    let mut delivery = site.start("node1", "delivery");
    let mut ingress = site.start_ingress();
    for number in 0..MESSAGES {
        send(site.smtp_port, number);
        // Killed with work in hand; a scorer's work is in the log or was never done.
        if number == MESSAGES / 3 {
            scorer.kill_and_start_again();
        }
    }
    site.wait_until_each_arrived_once(MESSAGES);
    // The reporter has heard of all of them, in its own process.
    wait::until("statistics have every outcome", PATIENCE, || {
        let log = control.verb(&["log", "--json", "--limit", "1000"]);
        let lines: Vec<serde_json::Value> = serde_json::from_slice(&log.stdout).ok()?;
        (lines.len() == MESSAGES && lines.iter().all(|line| line["outcome"] == "delivered")).then_some(())
    });
    for process in [&mut ingress, &mut scorer, &mut delivery, &mut control] {
        assert_eq!(process.terminate(), Some(0), "{}", process.roles);
    }
    site.wait_until_each_arrived_once(MESSAGES);
}

/// One process with every role, on a broker that wants TLS and a password.
#[test]
fn mail_goes_through_brokers_that_want_tls_and_a_password() {
    let kafka = Kafka::start_secured();
    let password = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(password.path(), "open sesame\n").expect("the password");
    let security = |ca_file: &str| {
        format!(
            "[log.tls]\nca_file = \"{ca_file}\"\n[log.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"mailweir\"\n\
             password_file = \"{}\"",
            password.path().display()
        )
    };
    let right = security(&kafka.ca_file().display().to_string());
    // Any other root: that of a certificate which the broker does not have.
    let other = rcgen::generate_simple_self_signed(vec!["other.example".into()]).expect("a certificate");
    let wrong_root = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(wrong_root.path(), other.cert.pem()).expect("the root");
    let mut site = Site::on(kafka, security(&wrong_root.path().display().to_string()));
    let mut refused = site.start("node2", "control");
    assert_ne!(refused.wait_for_end(), Some(0));
    assert!(
        refused.logged().contains("check [log] brokers, [log.tls] and [log.sasl]"),
        "{}",
        refused.logged()
    );

    site.security = right;
    let all = "ingress,scorer,delivery,reporter,control";
    let mut node = site.start("node1", all);
    site.apply(&node, SETTINGS);
    wait::for_port(site.smtp_port);
    for number in 0..5 {
        send(site.smtp_port, number);
    }
    site.wait_until_each_arrived_once(5);
    assert_eq!(node.terminate(), Some(0));
}

/// The groups share out their partitions anew twice, with mail under way.
#[test]
fn a_second_node_comes_and_goes_while_mail_flows_and_nothing_comes_twice() {
    let site = Site::new();
    let _control = site.start_control();
    let _workers = [site.start("node1", "scorer"), site.start("node1", "delivery")];
    let _ingress = site.start_ingress();
    let mut second = Vec::new();
    for number in 0..3 * MESSAGES {
        send(site.smtp_port, number);
        if number == MESSAGES / 2 {
            second = vec![site.start("node2", "scorer"), site.start("node2", "delivery")];
        }
        if number == 2 * MESSAGES {
            for process in &mut second {
                assert_eq!(process.terminate(), Some(0), "{}", process.roles);
            }
        }
    }
    site.wait_until_each_arrived_once(3 * MESSAGES);
}

/// The pool of the user has an address of the second node alone, and the first takes every message.
#[test]
fn mail_leaves_from_the_node_that_has_the_address_of_its_pool() {
    let site = Site::new();
    let control = site.start_control();
    let pool = "[[egress_source]]\nnode = \"node1\"\nip = \"127.0.0.21\"\n\
                [[egress_source]]\nnode = \"node2\"\nip = \"127.0.0.22\"\n\
                [[egress_pool]]\nname = \"default\"\nsources = [\"127.0.0.21\"]\n\
                [[egress_pool]]\nname = \"second\"\nsources = [\"127.0.0.22\"]\n";
    site.apply(&control, &format!("{pool}{SETTINGS}delivery_pool = \"second\"\n"));
    let _scorer = site.start("node1", "scorer");
    let mut first = site.start("node1", "delivery");
    let _ingress = site.start_ingress();
    for number in 0..MESSAGES {
        send(site.smtp_port, number);
    }
    let in_lane_of_second = || {
        let queue = control.verb(&["queue", "--json", "--limit", "1000"]);
        let answer: serde_json::Value = serde_json::from_slice(&queue.stdout).ok()?;
        let entries = answer["entries"].as_array().or_else(|| answer.as_array())?;
        let all = entries.len() == MESSAGES && entries.iter().all(|entry| entry["node"] == "node2");
        all.then_some(())
    };
    wait::until("all is in the lane of the second node", PATIENCE, in_lane_of_second);
    assert_eq!(site.sink.received(), BTreeMap::new(), "nothing leaves from another address");
    let mut second = site.start("node2", "delivery");
    site.wait_until_each_arrived_once(MESSAGES);
    // And while both are at work.
    for number in MESSAGES..2 * MESSAGES {
        send(site.smtp_port, number);
    }
    site.wait_until_each_arrived_once(2 * MESSAGES);
    assert_eq!(site.sink.clients(), BTreeSet::from(["127.0.0.22".to_owned()]));
    for process in [&mut first, &mut second] {
        assert_eq!(process.terminate(), Some(0), "{}", process.roles);
    }
}

/// Every command and configuration of the file, on one broker in place of three and with paths and addresses of this
/// machine; with statistics in ClickHouse, whose user is the one that make-secrets makes.
#[test]
fn the_processes_of_the_compose_file_take_and_deliver_mail() {
    let compose = Compose::load();
    let site = Site::new();
    let secrets = compose.make_secrets(&site.directory.path().join("secrets"));
    let users = secrets.iter().find(|(name, _)| name == "clickhouse_user").expect("its users");
    let cluster = Cluster { clickhouse: ClickHouse::start(&users.1), secrets: secrets.clone(), compose };
    let mut placed: BTreeMap<&str, Placed> = BTreeMap::new();
    for service in cluster.compose.processes() {
        placed.insert(service.name, site.start_of_compose(&service, &cluster));
    }
    site.apply(&placed["control"].process, &cluster.compose.settings());
    for (name, process) in &placed {
        wait::until(&format!("{name} is healthy"), PATIENCE, || {
            get(process.http, "/health").filter(|(status, _)| *status == 200)
        });
    }
    let doors = [placed["ingress1"].smtp, placed["ingress2"].smtp];
    for number in 0..MESSAGES {
        send(doors[number % 2], number);
    }
    site.wait_until_each_arrived_once(MESSAGES);
    // One user's mail goes through one partition, so one delivery had all of it, or both where the second joined meanwhile. A
    // node that had some goes, the other takes over.
    let first = site.sink.clients();
    let gone = if first.contains("127.0.0.11") { "delivery1" } else { "delivery2" };
    assert_eq!(placed.get_mut(gone).map(|p| p.process.terminate()), Some(Some(0)));
    for number in MESSAGES..2 * MESSAGES {
        send(doors[number % 2], number);
    }
    site.wait_until_each_arrived_once(2 * MESSAGES);
    assert_eq!(site.sink.clients(), ["127.0.0.11", "127.0.0.12"].map(str::to_owned).into());
    wait::until("statistics have every outcome", PATIENCE, || {
        let log = placed["control"].process.verb(&["log", "--json", "--limit", "1000"]);
        let lines: Vec<serde_json::Value> = serde_json::from_slice(&log.stdout).ok()?;
        (lines.len() == 2 * MESSAGES && lines.iter().all(|line| line["outcome"] == "delivered")).then_some(())
    });
    for (name, mut process) in placed.into_iter().filter(|(name, _)| *name != gone) {
        assert_eq!(process.process.terminate(), Some(0), "{name}");
    }
}
