//! Two nodes deliver over one Kafka. One is killed with mail in its lane and gone for good; its lane is moved, the other
//! delivers that mail, and the first one, started again all the same, sends none of it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use mailweir_tests::kafka::Kafka;
use mailweir_tests::process::Process;
use mailweir_tests::sink::Sink;
use mailweir_tests::{ports, smtp, wait};

const PATIENCE: Duration = Duration::from_secs(120);
const MESSAGES: usize = 20;
const SETTINGS: &str =
    "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

struct Site {
    kafka: Kafka,
    directory: tempfile::TempDir,
    smtp_port: u16,
    destination: u16,
}

impl Site {
    fn new() -> Self {
        Site {
            kafka: Kafka::start(),
            directory: tempfile::Builder::new().prefix("mailweir-test-").tempdir().expect("a directory"),
            smtp_port: ports::free(),
            destination: ports::free(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn start(&self, node: &str, roles: &'static str) -> Process {
        let directory = self.path().join(node);
        std::fs::create_dir_all(&directory).expect("the node's directory");
        let listener =
            format!("[[ingress.listener]]\nbind = \"127.0.0.1:{}\"\ntls = \"none\"", self.smtp_port);
        let listener = if roles.contains("ingress") { listener.as_str() } else { "" };
        let config = format!(
            "node = \"{node}\"\ndata_dir = \"{}/{roles}\"\ncluster_key_file = \"{}/cluster.key\"\n[log]\nengine = \"kafka\"\n\
             brokers = [\"{}\"]\npartitions = 4\nreplication = 1\n[ingress]\nhostname = \"smtp.hoster.example\"\n{listener}\n\
             [delivery]\nrelay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]\n",
            directory.display(),
            self.path().display(),
            self.kafka.broker,
            self.destination,
        );
        Process::start(&directory, &config, roles)
    }

    fn send(&self, number: usize) {
        let to = format!("ok{number}@b.example");
        let message = smtp::message("x@a.example", &to, "Hi", "Text");
        wait::until("it is accepted", PATIENCE, || {
            let reply = smtp::send(self.smtp_port, "x@a.example", &[&to], &message).ok()?;
            reply.starts_with("250").then_some(())
        });
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn refused(control: &Process, from: &str, to: &str, why: &str) {
    let output = control.verb(&["lane", "move", "--yes", from, to]);
    assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
}

/// How many entries are in the lane of a node.
fn in_lane(control: &Process, node: &str) -> usize {
    let queue = control.verb(&["queue", "--limit", "1000", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&queue.stdout).unwrap_or_default();
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().filter(|entry| entry["node"] == node).count()
}

/// A node with everything but delivery, and one that has taken mail into its lane which nobody receives.
fn with_a_full_lane(site: &Site) -> (Process, Process) {
    let control = site.start("node1", "ingress,scorer,reporter,control");
    let settings = site.path().join("settings.toml");
    std::fs::write(&settings, SETTINGS).expect("the settings");
    wait::until("the settings are applied", PATIENCE, || {
        let apply = control.verb(&["apply", "--yes", &settings.display().to_string()]);
        apply.status.success().then_some(())
    });
    let gone = site.start("node2", "delivery");
    for number in 0..MESSAGES {
        site.send(number);
    }
    wait::until("all wait in its lane", PATIENCE, || (in_lane(&control, "node2") == MESSAGES).then_some(()));
    (control, gone)
}

fn start_the_other(site: &Site) -> Process {
    let other = site.start("node3", "delivery");
    wait::until("the other delivers", PATIENCE, || {
        other.logged().contains("lane read, delivery begins").then_some(())
    });
    other
}

fn move_the_lane(control: &Process) {
    let output = control.verb(&["lane", "move", "--yes", "node2", "node3"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(&format!("{MESSAGES} of {MESSAGES} changed")), "{}", said(&output));
    wait::until("all are in the other lane", PATIENCE, || {
        (in_lane(control, "node3") == MESSAGES && in_lane(control, "node2") == 0).then_some(())
    });
}

fn wait_until_it_reads_an_empty_lane(gone: &Process, before: usize) {
    wait::until("it reads its lane", PATIENCE, || {
        gone.logged()[before..].contains("lane read, delivery begins entries=0").then_some(())
    });
}

/// Both go on with new mail, each with its partitions; of the old mail nothing comes again.
fn new_mail_arrives_and_each_message_once(site: &Site, sink: &Sink) {
    for number in MESSAGES..2 * MESSAGES {
        site.send(number);
    }
    wait::until("new mail arrives", PATIENCE, || (sink.count() >= 2 * MESSAGES).then_some(()));
    let mut expected: Vec<String> = (0..2 * MESSAGES).map(|number| format!("ok{number}@b.example")).collect();
    expected.sort();
    assert_eq!(sink.recipients(), expected, "each arrives once");
}

#[test]
fn the_lane_of_a_node_that_is_gone_is_delivered_once_by_another() {
    let site = Site::new();
    let (control, mut gone) = with_a_full_lane(&site);
    refused(&control, "node2", "node2", "in the lane of node2 already");
    refused(&control, "nowhere", "node2", "lanes that hold something: node2");
    refused(&control, "node2", "node3", "no delivery of node node3 answers");
    let mut other = start_the_other(&site);
    refused(&control, "node2", "node3", "node node2 is at work");
    assert_eq!(in_lane(&control, "node2"), MESSAGES, "nothing was moved");

    gone.kill();
    move_the_lane(&control);
    // It is back before anything was delivered: it must not have what is the other's now.
    let before = gone.logged().len();
    gone.kill_and_start_again();
    wait_until_it_reads_an_empty_lane(&gone, before);
    let sink = Sink::start_at(&format!("127.0.0.1:{}", site.destination));
    wait::until("all arrive", PATIENCE, || (sink.count() >= MESSAGES).then_some(()));
    wait::until("the queue is empty", PATIENCE, || (in_lane(&control, "node3") == 0).then_some(()));
    new_mail_arrives_and_each_message_once(&site, &sink);
    refused(&control, "node2", "node3", "nothing is in the lane of node2");
    for process in [&mut gone, &mut other] {
        assert_eq!(process.terminate(), Some(0), "{}", process.roles);
    }
}

/// It still has its whole lane in memory, all of it due.
#[test]
fn a_node_that_was_only_suspended_sends_nothing_of_the_lane_that_it_lost() {
    let site = Site::new();
    let (control, gone) = with_a_full_lane(&site);
    let _other = start_the_other(&site);
    gone.signal("STOP");
    move_the_lane(&control);
    let sink = Sink::start_at(&format!("127.0.0.1:{}", site.destination));
    wait::until("all arrive", PATIENCE, || (sink.count() >= MESSAGES).then_some(()));
    wait::until("the queue is empty", PATIENCE, || (in_lane(&control, "node3") == 0).then_some(()));
    let before = gone.logged().len();
    gone.signal("CONT");
    wait_until_it_reads_an_empty_lane(&gone, before);
    new_mail_arrives_and_each_message_once(&site, &sink);
}
