//! A log is moved to one with another count of partitions, interrupted at one write after the other, and what its readers find at
//! the end is what they would have found on the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Log, NewRecord, Polled, Record, SystemClock, TableEvent, bodies};
use faulty::FaultyLog;
use schemas::attempt::AttemptEvent;
use schemas::commands::{Action, Command};
use schemas::queue::{self, QueueEntry};
use schemas::senders::{self, HoldRow};
use schemas::topics::TopicPartition;
use schemas::verdict::{Judged, VerdictEvent};
use schemas::{Envelope, MessageId, Position, Timestamp, Topic, UserId, spool};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

#[path = "../eventlog/tests/faulty/mod.rs"]
mod faulty;

/// What the scorer reads.
const OF_SCORER: [Topic; 3] = [Topic::Accepted, Topic::Commands, Topic::Attempts];
const NODE: &str = "node1";
const USERS: usize = 9;

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/schemas/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a golden record")).expect("it parses")
}

fn open(directory: &TempDir, partitions: u32) -> Log {
    let config = EmbeddedConfig { partitions, ..EmbeddedConfig::new(directory.path().join("log")) };
    EmbeddedLog::open(config, Arc::new(SystemClock)).expect("a log")
}

fn user(number: usize) -> UserId {
    UserId(format!("user{number}.example"))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it can be written")
}

/// One message as its records in `accepted` and `released` have it, with its body in two chunks.
struct Message {
    id: MessageId,
    envelope: Envelope,
    judged: Judged,
}

async fn message(log: &Log, number: usize, what: &str) -> Message {
    let id = MessageId::derived(&format!("{what}{number}"), Timestamp(1_795_512_600_000));
    let chunks = (0..2).map(|n| bodies::chunk(id, n, Bytes::from(format!("{what}{number}, chunk {n}; "))));
    let chunks = log.append(chunks.collect()).await.expect("chunks");
    let mut envelope: Envelope = golden("accepted/envelope_with_everything");
    envelope.id = id;
    envelope.user = user(number);
    envelope.chunks = chunks;
    let mut judged: Judged = golden("released/judged");
    judged.envelope = envelope.clone();
    judged.message.id = id;
    judged.message.user = user(number);
    Message { id, envelope, judged }
}

async fn put(log: &Log, topic: Topic, by: &str, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Position {
    let record = NewRecord::new(topic, by.to_owned(), key, value);
    log.append(vec![record]).await.expect("it is written")[0]
}

async fn accept(log: &Log, message: &Message) -> Position {
    let value = spool::encode(&message.envelope, b"").expect("a spool record");
    put(log, Topic::Accepted, message.envelope.user.as_str(), message.id.to_string(), value).await
}

async fn judge(log: &Log, topic: Topic, message: &Message) -> Position {
    let value = spool::encode(&message.judged, b"").expect("a spool record");
    put(log, topic, message.envelope.user.as_str(), message.id.to_string(), value).await
}

async fn verdict(log: &Log, message: &Message, accepted: Position) {
    let VerdictEvent::Judged(mut verdict) = golden("verdicts/judged_quarantine") else { panic!("a verdict") };
    verdict.message = message.judged.message.clone();
    verdict.accepted = accepted;
    let user = message.envelope.user.as_str();
    put(log, Topic::Verdicts, user, message.id.to_string(), json(&VerdictEvent::Judged(verdict))).await;
}

async fn command(log: &Log, name: &str, id: &str, number: usize) {
    let mut command: Command = golden(&format!("commands/{name}"));
    command.id = id.into();
    if let Action::Lock { user: locked, .. } = &mut command.action {
        *locked = user(number);
    }
    let record =
        NewRecord::new(Topic::Commands, command.action.partition_key(), id.to_owned(), json(&command));
    log.append(vec![record]).await.expect("a command");
}

async fn attempt(log: &Log, number: usize, id: &str) {
    let AttemptEvent::Attempt(mut attempt) = golden("attempts/tried") else { panic!("an attempt") };
    attempt.message.user = user(number);
    let key = format!("{id}{number}");
    put(log, Topic::Attempts, user(number).as_str(), key, json(&AttemptEvent::Attempt(attempt))).await;
}

/// Puts a group behind everything that is there.
async fn pass(log: &Log, group: &str, topics: &[Topic]) {
    let mut consumer = log.join(group, "test", topics).await.expect("joins");
    let mut next = Vec::new();
    for topic in topics {
        let ends = log.ends(*topic).await.expect("ends");
        next.extend(
            (0..).zip(ends).map(|(partition, end)| (TopicPartition { topic: *topic, partition }, end)),
        );
    }
    consumer.poll(1, Duration::from_secs(1)).await.expect("polls");
    consumer.commit(Vec::new(), &next).await.expect("commits");
    consumer.leave().await;
}

/// What a group is given, until it is given nothing.
async fn unread(log: &Log, group: &str, topics: &[Topic]) -> Vec<Record> {
    let mut consumer = log.join(group, "test", topics).await.expect("joins");
    let mut all = Vec::new();
    loop {
        match consumer.poll(100, Duration::from_millis(100)).await.expect("polls") {
            Polled::Records(records) => all.extend(records),
            Polled::Nothing => break,
            _ => {}
        }
    }
    consumer.leave().await;
    all
}

async fn rows(log: &Log, topic: Topic) -> BTreeMap<Bytes, Record> {
    let mut rows = BTreeMap::new();
    let mut table = log.table(topic, None).await.expect("a table");
    loop {
        for event in table.next(100).await.expect("reads") {
            match event {
                TableEvent::Row(row) if row.value.is_some() => drop(rows.insert(row.key.clone(), row)),
                TableEvent::Row(row) => drop(rows.remove(&row.key)),
                TableEvent::CaughtUp => return rows,
            }
        }
    }
}

/// The body of the message in a record, by the chunks that it names.
async fn body(log: &Log, record: &Record) -> String {
    let value = record.value.clone().expect("a value");
    let envelope = match record.position.topic {
        Topic::Accepted => spool::decode::<Envelope>(&value).expect("an envelope").0,
        _ => spool::decode::<Judged>(&value).expect("a message").0.envelope,
    };
    assert_eq!(record.key, envelope.id.to_string());
    let body = bodies::load(log.as_ref(), &envelope, Bytes::new()).await.expect("its chunks");
    String::from_utf8(body.to_vec()).expect("text")
}

/// Per user: one message queued, one held, one to be judged, one to be taken up by delivery; a lock that was carried out and
/// one that was not. And one command for the lane that was not.
async fn fill(log: &Log) {
    for number in 0..USERS {
        let queued = message(log, number, "queued").await;
        accept(log, &queued).await;
        let position = judge(log, Topic::Released, &queued).await;
        let entry: QueueEntry = golden("queue/entry");
        let entry =
            QueueEntry { message: queued.judged.message.clone(), position, node: NODE.into(), ..entry };
        let record = NewRecord::new(
            Topic::Queue,
            queue::lane_key(NODE),
            queue::key(queued.id, &entry.site),
            json(&entry),
        );
        log.append(vec![record]).await.expect("an entry");
        let held = message(log, number, "held").await;
        let position = accept(log, &held).await;
        let row: HoldRow = golden("holds/hold");
        let row = HoldRow { message: held.judged.message.clone(), position, ..row };
        let key = senders::hold_key(&user(number), held.id);
        put(log, Topic::Senders, user(number).as_str(), key, json(&row)).await;
        command(log, "lock", &format!("old{number}"), number).await;
        attempt(log, number, "counted").await;
        verdict(log, &queued, position).await;
    }
    command(log, "queue_hold", "old-for-the-lane", 0).await;
    put(log, Topic::Settings, "domain/a.example", "domain/a.example", "{}").await;
    put(log, Topic::Changes, "domain/a.example", "domain/a.example", "{}").await;
    for (group, topics) in [
        ("scorer", &OF_SCORER[..]),
        ("lane-node1", &[Topic::Commands]),
        ("delivery", &[Topic::Released]),
        ("feedback", &[Topic::Verdicts]),
    ] {
        pass(log, group, topics).await;
    }
    for number in 0..USERS {
        accept(log, &message(log, number, "new").await).await;
        judge(log, Topic::Released, &message(log, number, "fresh").await).await;
        let blocked = message(log, number, "blocked").await;
        let position = accept(log, &blocked).await;
        verdict(log, &blocked, position).await;
        command(log, "lock", &format!("new{number}"), number).await;
        attempt(log, number, "new").await;
    }
    command(log, "queue_hold", "new-for-the-lane", 0).await;
}

async fn check(log: &Log) {
    let mut of_scorer = Vec::new();
    let (mut commands, mut attempts) = (Vec::new(), Vec::new());
    for record in unread(log, "scorer", &OF_SCORER).await {
        match record.position.topic {
            Topic::Accepted => of_scorer.push(body(log, &record).await),
            Topic::Attempts => attempts.push(String::from_utf8_lossy(&record.key).into_owned()),
            _ => commands.push(String::from_utf8_lossy(&record.key).into_owned()),
        }
    }
    let numbered =
        |what: &'static str| (0..USERS).map(move |n| format!("{what}{n}, chunk 0; {what}{n}, chunk 1; "));
    of_scorer.sort();
    assert_eq!(of_scorer, numbered("blocked").chain(numbered("new")).collect::<Vec<_>>());
    let expected: Vec<String> = (0..USERS).map(|n| format!("new{n}")).collect();
    commands.retain(|id| id != "new-for-the-lane");
    commands.sort();
    assert_eq!(commands, expected, "only what was not carried out");
    attempts.sort();
    assert_eq!(attempts, expected, "only what was not counted");
    let all = unread(log, "statistics", &[Topic::Attempts]).await;
    let keys: BTreeSet<_> = all.iter().map(|record| record.key.clone()).collect();
    assert_eq!(keys.len(), 2 * USERS, "all of the history");

    let for_lane = unread(log, "lane-node1", &[Topic::Commands]).await;
    let for_lane: Vec<_> = for_lane.iter().filter(|record| record.key.starts_with(b"new-for")).collect();
    assert_eq!(for_lane.len(), 1, "the lane carries its command out once");

    let mut taken = Vec::new();
    for record in unread(log, "delivery", &[Topic::Released]).await {
        taken.push(body(log, &record).await);
    }
    taken.sort();
    assert_eq!(taken, numbered("fresh").collect::<Vec<_>>());

    let reports = unread(log, "feedback", &[Topic::Verdicts]).await;
    assert_eq!(reports.len(), USERS);
    for record in reports {
        let event = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("an event");
        let VerdictEvent::Judged(verdict) = event else { panic!("a verdict") };
        let accepted = log.read(verdict.accepted).await.expect("reads").expect("its message is in tow");
        assert!(body(log, &accepted).await.starts_with("blocked"));
    }

    let entries = rows(log, Topic::Queue).await;
    assert_eq!(entries.len(), USERS);
    for row in entries.values() {
        let entry: QueueEntry =
            serde_json::from_slice(row.value.as_deref().expect("a value")).expect("an entry");
        assert_eq!(row.position.partition, log.partition_of(Topic::Queue, &queue::lane_key(NODE)));
        let message = log.read(entry.position).await.expect("reads").expect("its message");
        assert_eq!(message.key, entry.message.id.to_string());
        assert!(body(log, &message).await.starts_with("queued"));
    }
    let holds = rows(log, Topic::Senders).await;
    assert_eq!(holds.len(), USERS);
    for row in holds.values() {
        let hold: HoldRow = serde_json::from_slice(row.value.as_deref().expect("a value")).expect("a hold");
        assert_eq!(
            row.position.partition,
            log.partition_of(Topic::Senders, hold.message.user.as_str().as_bytes())
        );
        let message = log.read(hold.position).await.expect("reads").expect("its message");
        assert!(body(log, &message).await.starts_with("held"));
    }
    assert_eq!(rows(log, Topic::Settings).await.len(), 1);
    assert_eq!(rows(log, Topic::Changes).await.len(), 1);
    assert_eq!(log.ends(Topic::Changes).await.expect("its end"), [1], "no change is told twice");
}

/// The source is held by the test itself.
fn no_note() -> anyhow::Result<()> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_again_and_again_it_comes_to_the_same() {
    for partitions in [6, 3] {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (source, target) = (open(&from, 4), open(&to, partitions));
        fill(&source).await;
        let mut interrupted = 0;
        loop {
            // Some fail early, some late: the next one covers whatever the last one left.
            let failing = FaultyLog::after_appends(&target, 1 + interrupted * 3);
            match mailweir::migrate::between(&source, &failing, NODE, &SystemClock, no_note).await {
                Ok(_) => break,
                Err(_) => interrupted += 1,
            }
            assert!(mailweir::migrate::marker::check(&target).await.is_err(), "nobody starts on half of it");
        }
        assert!(interrupted > 10, "{interrupted}");
        check(&target).await;
        assert!(mailweir::migrate::marker::check(&target).await.is_ok());
        let again =
            mailweir::migrate::between(&source, &target, NODE, &SystemClock, no_note).await.unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
        source.close().await;
        target.close().await;
    }
}

/// From the moment on when the target could start, the source must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_done_before_the_source_is_stopped_for_good() {
    let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (source, target) = (open(&from, 4), open(&to, 6));
    fill(&source).await;
    let fails = || anyhow::bail!("no room for the note");
    let error = mailweir::migrate::between(&source, &target, NODE, &SystemClock, fails).await.unwrap_err();
    assert!(error.to_string().contains("no room for the note"), "{error}");
    assert!(mailweir::migrate::marker::check(&target).await.is_err(), "the old node could go on");
    mailweir::migrate::between(&source, &target, NODE, &SystemClock, no_note).await.expect("it is moved");
    assert!(mailweir::migrate::marker::check(&target).await.is_ok());
    check(&target).await;
}

/// Between two runs the old node may have gone on: what it finished is not in the queue any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_left_meanwhile_is_taken_away() {
    let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (source, target) = (open(&from, 4), open(&to, 6));
    fill(&source).await;
    let mut writes = 1;
    while rows(&target, Topic::Queue).await.is_empty() {
        let failing = FaultyLog::after_appends(&target, writes);
        assert!(mailweir::migrate::between(&source, &failing, NODE, &SystemClock, no_note).await.is_err());
        writes += 1;
    }
    let gone = rows(&source, Topic::Queue).await.into_keys().next().expect("an entry");
    let tombstone = NewRecord::tombstone(Topic::Queue, queue::lane_key(NODE), gone.clone());
    source.append(vec![tombstone]).await.expect("it leaves");
    mailweir::migrate::between(&source, &target, NODE, &SystemClock, no_note).await.expect("it is moved");
    let entries = rows(&target, Topic::Queue).await;
    assert!(entries.len() == USERS - 1 && !entries.contains_key(&gone));
}
