//! What is over goes; nothing else does, and nobody trips over it.

use std::time::Duration;

use eventlog::{Log, TailFrom};
use schemas::Topic;

use crate::engine::{Engine, Follower, record, text};

const HOUR: Duration = Duration::from_secs(3600);

/// Takes so many records and commits them: what nobody has read of `accepted` stays.
async fn read(reader: &mut Follower, count: usize) {
    let last = reader.take(count).await.pop().expect("records").position;
    reader.consumer.commit(vec![], &[(last.topic_partition(), last.offset + 1)]).await.expect("commits");
}

pub async fn what_is_over_goes_hour_by_hour(engine: &mut dyn Engine, log: Log) {
    let append = async |log: &Log, value: &str| {
        let record = record(Topic::Accepted, "k", value.to_owned()).in_partition(0);
        log.append(vec![record]).await.expect("appends")[0]
    };
    let mut reader = Follower::join(&log, "reader", "0", &[Topic::Accepted]).await;
    let mut positions = Vec::new();
    for hour in 0..120 {
        positions.push(append(&log, &format!("hour {hour}")).await);
        read(&mut reader, 1).await;
        engine.pass(HOUR).await;
    }
    drop(reader);
    let log = engine.reopen(log).await;
    // Two days are kept, and a part of the retention more, because whole runs are dropped.
    let oldest = positions[0];
    assert!(log.read(oldest).await.expect("reads").is_none(), "its retention is over");
    for position in &positions[72..] {
        assert!(log.read(*position).await.expect("reads").is_some(), "{position} must be kept");
    }
    let mut tail = log.tail(Topic::Accepted, 0, TailFrom::Offset(oldest.offset)).await.expect("tails");
    let first = tail.next(1).await.expect("reads").remove(0);
    assert!(first.position.offset > oldest.offset, "a reader goes on at the next kept offset");
    let mut group = Follower::join(&log, "late", "0", &[Topic::Accepted]).await;
    let records = group.take(1).await;
    assert_eq!(records[0].position, first.position);
    let kept = positions.iter().filter(|position| **position >= first.position).count();
    assert!((48..=72).contains(&kept), "{kept} hours are kept");
    assert_eq!(log.lag("late", Topic::Accepted).await.expect("lag"), kept as u64);
}

pub async fn readers_go_on_at_what_is_kept(engine: &mut dyn Engine, log: Log) {
    let append = async |log: &Log, values: std::ops::Range<u32>| {
        let records = values.map(|n| record(Topic::Accepted, "k", n.to_string()).in_partition(0)).collect();
        log.append(records).await.expect("appends")
    };
    let over = append(&log, 0..10).await;
    read(&mut Follower::join(&log, "reader", "0", &[Topic::Accepted]).await, 10).await;
    engine.outlive(&log, Topic::Accepted).await;
    let kept = append(&log, 10..20).await;
    for position in &over {
        assert!(log.read(*position).await.expect("reads").is_none(), "its retention is over");
    }
    let last = log.read(kept[9]).await.expect("reads").expect("is kept");
    assert_eq!(text(&last), "19");
    let mut tail = log.tail(Topic::Accepted, 0, TailFrom::Offset(over[3].offset)).await.expect("tails");
    assert_eq!(tail.next(1).await.expect("reads")[0].position, kept[0]);
    assert_eq!(log.lag("late", Topic::Accepted).await.expect("lag"), 10);
    let mut late = Follower::join(&log, "late", "0", &[Topic::Accepted]).await;
    assert_eq!(late.take(10).await.iter().map(|r| r.position).collect::<Vec<_>>(), kept);
}

/// As `queue` does it (DESIGN, Correctness 5): what must outlive its topic is appended again in time.
pub async fn what_was_appended_again_stays(engine: &mut dyn Engine, log: Log) {
    let mut held = log.append(vec![record(Topic::Released, "m", "held mail")]).await.expect("appends")[0];
    for _ in 0..10 {
        engine.pass(24 * HOUR).await;
        let message = log.read(held).await.expect("reads").expect("retention never eats mail");
        assert_eq!(text(&message), "held mail");
        held = log.append(vec![record(Topic::Released, "m", text(&message))]).await.expect("appends")[0];
    }
    let log = engine.reopen(log).await;
    assert!(log.read(held).await.expect("reads").is_some());
}

pub async fn offsets_grow_though_all_is_gone(engine: &mut dyn Engine, log: Log) {
    let written =
        log.append(vec![record(Topic::Replies, "r", "x").in_partition(1)]).await.expect("appends")[0];
    let mut group = Follower::join(&log, "g", "0", &[Topic::Replies]).await;
    assert_eq!(group.take(1).await.len(), 1);
    engine.outlive(&log, Topic::Replies).await;
    let log = engine.reopen(log).await;
    assert!(log.read(written).await.expect("reads").is_none());
    let again = log.append(vec![record(Topic::Replies, "r", "y").in_partition(1)]).await.expect("appends")[0];
    assert!(again.offset > written.offset);
    let mut group = Follower::join(&log, "g", "0", &[Topic::Replies]).await;
    assert_eq!(group.take(1).await[0].position, again);
}
