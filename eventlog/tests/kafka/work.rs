//! A worker that copies, and the small things that the tests share.

use std::sync::Arc;
use std::time::Duration;

use eventlog::kafka::KafkaLog;
use eventlog::{Consumer, Log, LogError, NewRecord, Polled, Record, TailFrom};
use schemas::Topic;
use schemas::topics::TopicPartition;

pub const PATIENCE: Duration = Duration::from_secs(90);

pub async fn open(config: eventlog::kafka::KafkaConfig) -> Log {
    let log: Arc<KafkaLog> = KafkaLog::open(config).await.expect("opens");
    log
}

pub fn input(value: usize) -> NewRecord {
    NewRecord::new(Topic::Accepted, "k", "k", value.to_string()).in_partition(0)
}

pub fn output(value: &str) -> NewRecord {
    NewRecord::new(Topic::Verdicts, "v", "v", value.to_owned()).in_partition(0)
}

pub fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().expect("a value").to_vec()).expect("text")
}

/// For each partition among `records`, the offset after its last.
pub fn after(records: &[Record]) -> Vec<(TopicPartition, u64)> {
    let next = records.iter().map(|r| (r.position.topic_partition(), r.position.offset + 1));
    next.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
}

/// The next records; assignments are passed over, and so is an unavailable log.
pub async fn take(member: &mut dyn Consumer, max: usize) -> Result<Vec<Record>, LogError> {
    let records = async {
        loop {
            match member.poll(max, Duration::from_secs(1)).await {
                Ok(Polled::Records(records)) => return Ok(records),
                Ok(_) | Err(LogError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(PATIENCE, records).await.expect("records in time")
}

/// Copies `accepted` to `verdicts` until `count` inputs are done, as a worker does it: what fails is rewound or joined
/// again.
pub async fn copy(log: &Log, slot: &str, count: usize, mut between: impl FnMut(usize)) {
    let mut done = 0;
    let mut member = join(log, slot).await;
    while done < count {
        let Ok(records) = take(&mut *member, 5).await else {
            member = join(log, slot).await;
            continue;
        };
        between(done);
        let outputs = records.iter().map(|record| output(&text(record))).collect();
        match member.commit(outputs, &after(&records)).await {
            Ok(_) => {}
            Err(LogError::Unavailable(_)) => {
                while let Err(error) = member.rewind().await {
                    assert!(error.is_transient(), "{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Err(_) => member = join(log, slot).await,
        }
        done =
            member.positions().iter().find(|(of, _)| of.partition == 0).map_or(done, |(_, at)| *at as usize);
    }
}

pub async fn join(log: &Log, slot: &str) -> Box<dyn Consumer> {
    let joined = async {
        loop {
            match log.join("copier", slot, &[Topic::Accepted]).await {
                Ok(member) => return member,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, joined).await.expect("joins in time")
}

/// Everything that can be read of `verdicts`, from outside.
pub async fn outputs(log: &Log, count: usize) -> Vec<String> {
    let mut tail = log.tail(Topic::Verdicts, 0, TailFrom::Offset(0)).await.expect("tails");
    let mut found = Vec::new();
    while found.len() < count {
        let more = tokio::time::timeout(PATIENCE, tail.next(100)).await.expect("in time").expect("reads");
        found.extend(more.iter().map(text));
    }
    let more = tokio::time::timeout(Duration::from_secs(1), tail.next(1)).await;
    assert!(more.is_err(), "nothing comes twice");
    found
}
