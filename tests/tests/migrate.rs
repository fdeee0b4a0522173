//! A node moves from its embedded log to Kafka with everything it has in hand, and goes on there as if nothing had been.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use eventlog::EventLog;
use eventlog::kafka::{KafkaConfig, KafkaLog};
use mailweir_tests::kafka::Kafka;
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{ports, smtp, wait};
use schemas::Topic;

const PATIENCE: Duration = Duration::from_secs(90);
const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
/// Four messages an hour leave; a fifth waits.
const SETTINGS: &str = "[defaults]\nlimits = { messages_per_hour = 4 }\nover_limit = \"hold\"\n[[domain]]\nname = \"a.example\"\n\
    [[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

fn send(node: &Mailweir, from: &str, to: &str, body: &str) -> String {
    smtp::send(node.port, from, &[to], &smtp::message(from, to, "Hi", body)).expect("a reply")
}

fn migrate(from: &Path, to: &Path) -> Command {
    let mut command = Command::new(Mailweir::binary());
    command.arg("migrate").arg("--from").arg(from).arg("--to").arg(to);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn refused(from: &Path, to: &Path, why: &str) {
    let output = migrate(from, to).output().expect("mailweir");
    assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
}

/// Killed when rows stand on the target and settings do not.
fn interrupt_half_way(mut command: Command, kafka: &Kafka) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config =
        KafkaConfig { partitions: 6, replication: 1, ..KafkaConfig::new(vec![kafka.broker.clone()]) };
    let log = runtime.block_on(KafkaLog::open(config)).expect("the target");
    let mut migrating = command.spawn().expect("mailweir");
    wait::until("rows are written", PATIENCE, || {
        let ends = runtime.block_on(log.ends(Topic::Queue)).expect("the ends");
        ends.iter().any(|end| *end > 0).then_some(())
    });
    migrating.kill().expect("it is killed");
    migrating.wait().expect("it ends");
    assert_eq!(
        runtime.block_on(log.ends(Topic::Settings)).expect("the end"),
        [0],
        "it had not come to its end"
    );
    runtime.block_on(log.close());
}

/// The configuration of the same node on Kafka, with a count of partitions that its own one does not divide.
fn on_kafka(node: &Mailweir, kafka: &Kafka) -> String {
    let text = std::fs::read_to_string(node.config()).expect("its configuration");
    let log =
        format!("engine = \"kafka\"\nbrokers = [\"{}\"]\npartitions = 6\nreplication = 1", kafka.broker);
    text.replace("min_free = \"32MiB\"", &log)
}

fn write(node: &Mailweir, name: &str, text: &str) -> PathBuf {
    let path = node.directory.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

fn total(node: &Mailweir, what: &str) -> u64 {
    node.json(&[what])["total"].as_u64().expect("a number")
}

fn messages_in_statistics(node: &Mailweir) -> u64 {
    let lines = node.json(&["stats"]);
    lines.as_array().expect("lines").iter().filter_map(|line| line["messages"].as_u64()).sum()
}

#[test]
fn a_node_moves_to_kafka_with_everything_it_has_in_hand() {
    let kafka = Kafka::start();
    let destination = ports::free();
    let delivery = format!("relay_host = \"127.0.0.1:{destination}\"\nretry = [\"1s\"]");
    let mut node = Mailweir::start(&Setup { delivery, ..Setup::default() }, SETTINGS);

    let large = "0123456789 abcdefghijklmnopqrstuvwxyz\r\n".repeat(30_000);
    assert!(large.len() > 768 * 1024);
    for (to, body) in [("ok1", "Text"), ("ok2", "Text"), ("ok3", "Text"), ("oklarge", large.as_str())] {
        assert!(send(&node, "office@a.example", &format!("{to}@b.example"), body).starts_with("250"));
    }
    let blocked = send(&node, "office@a.example", "okspam@b.example", GTUBE);
    assert!(blocked.starts_with("550"), "{blocked}");
    // The four, and the report to the abuse desk about the fifth.
    wait::until("all wait in the queue", PATIENCE, || (total(&node, "queue") == 5).then_some(()));
    assert!(send(&node, "office@a.example", "okheld@b.example", "Text").starts_with("250"));
    wait::until("one is held", PATIENCE, || (total(&node, "held") == 1).then_some(()));
    node.verb(&["lock", "127.0.0.1/32", "--identity", "locked@a.example", "--reason", "by the test"]);
    let quarantined =
        node.json(&["quarantine"])["messages"][0]["message"]["id"].as_str().expect("an id").to_owned();
    let held = node.json(&["held"])["rows"][0]["message"]["id"].as_str().expect("an id").to_owned();
    wait::until("statistics have all", PATIENCE, || (messages_in_statistics(&node) == 6).then_some(()));

    let text = on_kafka(&node, &kafka);
    let embedded = write(&node, "embedded.toml", &std::fs::read_to_string(node.config()).expect("a file"));
    let to = write(&node, "kafka.toml", &text);
    refused(&embedded, &to, "must be stopped first");
    assert_eq!(node.terminate(), Some(0));
    refused(
        &embedded,
        &write(&node, "other.toml", &text.replace("node1", "node2")),
        "node = \"node1\" in both",
    );

    interrupt_half_way(migrate(&embedded, &to), &kafka);
    let output =
        Command::new(Mailweir::binary()).args(["run", "--config"]).arg(&to).output().expect("mailweir");
    assert!(!output.status.success() && said(&output).contains("is not finished"), "{}", said(&output));
    let output = migrate(&embedded, &to).output().expect("mailweir");
    assert!(output.status.success(), "{}", said(&output));
    for line in ["5  queue entries", "1  rows of the quarantine", "5  messages of queue entries"] {
        assert!(said(&output).contains(line), "{line}:\n{}", said(&output));
    }
    refused(&embedded, &to, "was moved here already");
    let output =
        Command::new(Mailweir::binary()).args(["run", "--config"]).arg(&embedded).output().expect("mailweir");
    assert!(!output.status.success() && said(&output).contains("would leave twice"), "{}", said(&output));

    write(&node, "mailweir.toml", &text);
    node.run();
    assert_eq!((total(&node, "queue"), total(&node, "held")), (5, 1));
    let sink = Sink::start_at(&format!("127.0.0.1:{destination}"));
    wait::until("the queue is delivered", PATIENCE, || (total(&node, "queue") == 0).then_some(()));
    node.verb(&["quarantine", "release", &quarantined]);
    node.verb(&["quarantine", "release", &held]);
    wait::until("what was released arrives", PATIENCE, || (sink.count() >= 7).then_some(()));
    assert_eq!(
        sink.recipients(),
        [
            "abuse@hoster.example",
            "ok1@b.example",
            "ok2@b.example",
            "ok3@b.example",
            "okheld@b.example",
            "oklarge@b.example",
            "okspam@b.example"
        ],
        "each arrives once"
    );
    let received = sink.received();
    let came = received.iter().find(|mail| mail.recipients == ["oklarge@b.example"]).expect("the large one");
    let tail = &came.message[came.message.len() - large.len() - 2..];
    assert_eq!(tail, format!("{large}\r\n").as_bytes(), "every chunk of it");

    let outcomes = node.wait_for_outcomes(6, PATIENCE);
    assert!(outcomes.iter().all(|line| line["outcome"] == "delivered"), "{outcomes:?}");
    assert_eq!(messages_in_statistics(&node), 6, "each counted once");
    let trace = node.trace(&quarantined);
    assert!(trace.contains("GTUBE") && trace.contains("released") && trace.contains("delivered"), "{trace}");

    let locked = send(&node, "locked@a.example", "ok@b.example", "Text");
    assert!(locked.starts_with("550") || locked.starts_with("4"), "the lock stands: {locked}");
    // The counters stand, too: a new one waits for its hour.
    assert!(send(&node, "office@a.example", "oklast@b.example", "Text").starts_with("250"));
    wait::until("it is held", PATIENCE, || (total(&node, "held") == 1).then_some(()));

    assert_eq!(node.terminate(), Some(0));
}
