//! `kill -9` at random moments, while a process appends and runs a consume-commit loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Log, NewRecord, Polled, Record, SystemClock, TableEvent};
use schemas::Topic;
use schemas::topics::TopicPartition;

use crate::child;

const ROUNDS: u32 = 25;
const PARTITIONS: u32 = 4;

/// Every other round writes memtables out and cuts epochs all the time, so that kills hit those, too.
fn config(directory: &Path, round: u32) -> EmbeddedConfig {
    let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory) };
    if round.is_multiple_of(2) {
        return config;
    }
    EmbeddedConfig {
        memtable_bytes: 256 << 10,
        small_memtable_bytes: 32 << 10,
        epoch_bytes: 1 << 20,
        ..config
    }
}

fn open(directory: &Path, round: u32) -> Log {
    EmbeddedLog::open(config(directory, round), Arc::new(SystemClock)).expect("opens after a kill")
}

/// What a record of `accepted` says of itself: producer, round, number.
type Id = (u32, u32, u32);

fn id(record: &Record) -> Id {
    let value = record.value.as_ref().expect("a value");
    let end = value.iter().position(|byte| *byte == b'\n').unwrap_or(value.len());
    let mut parts = std::str::from_utf8(&value[..end]).expect("text").split(' ');
    let mut number = || parts.next().expect("a part").parse().expect("a number");
    (number(), number(), number())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of its own, started and killed by `nothing_acknowledged_is_lost`"]
async fn works_until_killed() {
    let Some((directory, round)) = child::task() else { return };
    let log = open(&directory, round);
    println!("\nopen");
    for producer in 0..4 {
        tokio::spawn(produce(log.clone(), producer, round));
    }
    copy(&log).await;
}

async fn produce(log: Log, producer: u32, round: u32) {
    for number in 0.. {
        let filler = (number as usize * 7919 + producer as usize * 104_729) % 20_000;
        let value = format!("{producer} {round} {number}\n{}", "x".repeat(filler));
        let record = NewRecord::new(Topic::Accepted, format!("user{producer}"), "id", value);
        log.append(vec![record]).await.expect("appends");
        println!("\nack {producer} {round} {number}");
    }
}

/// Copies `accepted` into `verdicts`, and the newest of each producer into `senders`, in one step with the offsets.
async fn copy(log: &Log) {
    let mut consumer = log.join("copy", "0", &[Topic::Accepted]).await.expect("joins");
    loop {
        let Polled::Records(records) = consumer.poll(17, Duration::from_secs(60)).await.expect("polls")
        else {
            continue;
        };
        let mut outputs = Vec::new();
        let mut next = BTreeMap::new();
        for record in records {
            let (producer, round, number) = id(&record);
            let (partition, offset) = (record.position.partition, record.position.offset);
            let line = format!("{producer} {round} {number}");
            outputs.push(
                NewRecord::new(Topic::Verdicts, "", offset.to_string(), line.clone()).in_partition(partition),
            );
            outputs
                .push(NewRecord::new(Topic::Senders, "", producer.to_string(), line).in_partition(partition));
            next.insert(record.position.topic_partition(), offset + 1);
        }
        let next: Vec<(TopicPartition, u64)> = next.into_iter().collect();
        consumer.commit(outputs, &next).await.expect("commits");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut acknowledged = BTreeSet::new();
    let mut slowest = Duration::ZERO;
    let mut dice = 12345_u64;
    for round in 0..ROUNDS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(20 + (dice >> 33) % 500);
        acknowledged.extend(run_and_kill(directory.path(), round, life));
        let began = Instant::now();
        let log = open(directory.path(), round + 1);
        slowest = slowest.max(began.elapsed());
        check(&log, &acknowledged).await;
        log.close().await;
    }
    assert!(acknowledged.len() > 200, "the children were alive: {}", acknowledged.len());
    assert!(slowest < Duration::from_secs(5), "opening took {slowest:?}");
    println!("{} acknowledged over {ROUNDS} kills, slowest opening {slowest:?}", acknowledged.len());
}

/// What a child acknowledged before it was killed, `life` after it had opened the log.
fn run_and_kill(directory: &Path, round: u32, life: Duration) -> Vec<Id> {
    let mut child =
        child::command("crash::works_until_killed", directory, round, None).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "open"), "the child ended before it had opened the log");
    let killer = std::thread::spawn(move || {
        std::thread::park_timeout(life);
        child.kill().expect("is killed");
        child.wait().expect("ends")
    });
    // The last line may be cut; then it is no acknowledgement that anybody saw.
    let acknowledged = lines.filter_map(|line| parse(&line)).collect();
    let status = killer.join().expect("no panic");
    assert!(!status.success(), "the child ended by itself");
    acknowledged
}

fn parse(line: &str) -> Option<Id> {
    let mut parts = line.strip_prefix("ack ")?.split(' ').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

async fn check(log: &Log, acknowledged: &BTreeSet<Id>) {
    let mut stored = BTreeSet::new();
    let mut newest = BTreeMap::new();
    let committed = committed(log).await;
    let (inputs, outputs) = (all(log, Topic::Accepted).await, all(log, Topic::Verdicts).await);
    for partition in 0..PARTITIONS {
        let of = |records: &[Record]| -> Vec<Record> {
            records.iter().filter(|record| record.position.partition == partition).cloned().collect()
        };
        let (inputs, outputs) = (of(&inputs), of(&outputs));
        let done = inputs.iter().filter(|input| input.position.offset < committed[&partition]);
        let expected: Vec<(String, Id)> =
            done.map(|input| (input.position.offset.to_string(), id(input))).collect();
        let copied: Vec<(String, Id)> = outputs
            .iter()
            .map(|output| (String::from_utf8(output.key.to_vec()).expect("text"), id(output)))
            .collect();
        let differs = copied.iter().zip(&expected).position(|(copied, expected)| copied != expected);
        let around = differs.unwrap_or(expected.len().min(copied.len())).saturating_sub(2);
        assert!(
            copied.len() == expected.len() && differs.is_none(),
            "partition {partition}: offset {}, {} outputs of {} inputs, first difference at {differs:?}; outputs from {around} on {:?} \
             in place of {:?}",
            committed[&partition],
            copied.len(),
            inputs.len(),
            copied.iter().skip(around).take(6).collect::<Vec<_>>(),
            expected.iter().skip(around).take(6).collect::<Vec<_>>(),
        );
        newest.extend(copied.into_iter().map(|(_, id)| (id.0, id)));
        for input in inputs {
            assert!(stored.insert(id(&input)), "{:?} is there twice", id(&input));
        }
    }
    let missing: Vec<&Id> = acknowledged.difference(&stored).collect();
    assert!(missing.is_empty(), "acknowledged and gone: {missing:?}");
    for (producer, round, number) in &stored {
        assert!(*number == 0 || stored.contains(&(*producer, *round, number - 1)), "a gap before {number}");
    }
    assert_eq!(rows(log).await, newest, "the compacted topic goes with the outputs");
}

async fn committed(log: &Log) -> BTreeMap<u32, u64> {
    let mut consumer = log.join("copy", "0", &[Topic::Accepted]).await.expect("joins");
    let assigned = consumer.poll(1, Duration::from_secs(5)).await.expect("polls");
    assert!(matches!(assigned, Polled::Assigned(_)));
    let committed = consumer.positions().into_iter().map(|(of, offset)| (of.partition, offset)).collect();
    consumer.leave().await;
    committed
}

/// Everything in a topic, in order within each partition. Nothing is dropped here, so a group that has committed nothing
/// lags by all there is.
async fn all(log: &Log, topic: Topic) -> Vec<Record> {
    let count = log.lag("checker", topic).await.expect("lag");
    let mut consumer = log.join("checker", "0", &[topic]).await.expect("joins");
    let mut found = Vec::new();
    while (found.len() as u64) < count {
        match consumer.poll(1000, Duration::from_secs(30)).await.expect("polls") {
            Polled::Records(records) => found.extend(records),
            Polled::Assigned(_) => {}
            other => panic!("{} of {count} are there, then {other:?}", found.len()),
        }
    }
    consumer.leave().await;
    found
}

async fn rows(log: &Log) -> BTreeMap<u32, Id> {
    let mut table = log.table(Topic::Senders, None).await.expect("opens");
    let mut rows = BTreeMap::new();
    loop {
        for event in table.next(100).await.expect("reads") {
            match event {
                TableEvent::Row(record) => {
                    let row = id(&record);
                    assert!(rows.insert(row.0, row).is_none(), "one row for each key");
                }
                TableEvent::CaughtUp => return rows,
            }
        }
    }
}
