//! Outputs and offsets: one step, or none.

use std::time::Duration;

use bytes::Bytes;
use eventlog::{Log, LogError, NewRecord, TailFrom};
use schemas::Topic;
use schemas::topics::MAX_VALUE_BYTES;

use crate::engine::{Engine, Follower, after, key, record, text};

fn input(key: &str, value: &str) -> NewRecord {
    record(Topic::Accepted, key, value.to_owned()).in_partition(0)
}

fn output(value: String) -> NewRecord {
    record(Topic::Verdicts, "v", value).in_partition(0)
}

async fn all_outputs(log: &Log) -> Vec<String> {
    let mut follower = Follower::join(log, "checker", "0", &[Topic::Verdicts]).await;
    let mut found = Vec::new();
    loop {
        let records = follower.poll(100, Duration::from_millis(200)).await.expect("polls");
        if records.is_empty() && !follower.owned.is_empty() && !found.is_empty() {
            return found;
        }
        found.extend(records.iter().map(text));
    }
}

pub async fn outputs_and_offsets_are_one_step(engine: &mut dyn Engine, log: Log) {
    log.append((0..4).map(|n| input("k", &n.to_string())).collect()).await.expect("appends");
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let taken = worker.take(2).await;
    let row = record(Topic::Senders, "u", "row");
    let written =
        worker.consumer.commit(vec![output("o0".into()), row], &after(&taken)).await.expect("commits");
    assert_eq!(written.len(), 2);
    assert_eq!((written[0].topic, written[1].topic), (Topic::Verdicts, Topic::Senders));
    drop(worker);
    let log = engine.reopen(log).await;
    assert_eq!(log.read(written[0]).await.expect("reads").map(|r| text(&r)).as_deref(), Some("o0"));
    assert_eq!(log.read(written[1]).await.expect("reads").map(|r| key(&r)).as_deref(), Some("u"));
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let rest = worker.take(2).await;
    assert_eq!(rest.iter().map(text).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(
        worker.consumer.positions().into_iter().find(|(of, _)| of.partition == 0).map(|(_, at)| at),
        Some(rest[0].position.offset)
    );
}

pub async fn a_timer_commits_outputs_alone(_: &mut dyn Engine, log: Log) {
    log.append(vec![input("k", "0"), input("k", "1")]).await.expect("appends");
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let taken = worker.take(1).await;
    worker.consumer.commit(vec![], &after(&taken)).await.expect("commits");
    let positions = worker.consumer.positions();
    assert_eq!(positions.len(), 4);
    worker.consumer.commit(vec![output("timer".into())], &positions).await.expect("commits");
    assert_eq!(worker.consumer.positions(), positions, "a timer moves no offset");
    assert_eq!(worker.take(1).await.iter().map(text).collect::<Vec<_>>(), ["1"]);
    let mut heir = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let refused = worker.consumer.commit(vec![output("zombie".into())], &positions).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    assert_eq!(heir.take(1).await.iter().map(text).collect::<Vec<_>>(), ["1"]);
    assert_eq!(all_outputs(&log).await, ["timer"]);
}

pub async fn rewind_begins_again_at_the_last_commit(_: &mut dyn Engine, log: Log) {
    log.append((0..5).map(|n| input("k", &n.to_string())).collect()).await.expect("appends");
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let first = worker.take(2).await;
    worker.consumer.commit(vec![output("o".into())], &after(&first)).await.expect("commits");
    assert_eq!(worker.take(3).await.iter().map(text).collect::<Vec<_>>(), ["2", "3", "4"]);
    worker.consumer.rewind().await.expect("rewinds");
    let again = worker.take(3).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["2", "3", "4"]);
    worker.consumer.commit(vec![], &after(&again)).await.expect("commits");
    worker.consumer.rewind().await.expect("rewinds");
    assert!(worker.poll(1, Duration::from_millis(100)).await.expect("polls").is_empty());
}

pub async fn a_refused_commit_writes_nothing(_: &mut dyn Engine, log: Log) {
    log.append(vec![input("k", "0")]).await.expect("appends");
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let taken = worker.take(1).await;
    let too_large =
        NewRecord::new(Topic::Verdicts, "v", "v", Bytes::from(vec![0; MAX_VALUE_BYTES + 1])).in_partition(0);
    let refused = worker.consumer.commit(vec![output("a".into()), too_large], &after(&taken)).await;
    assert!(matches!(refused, Err(LogError::TooLarge { .. })), "{refused:?}");
    let nowhere = output("b".into()).in_partition(77);
    let refused = worker.consumer.commit(vec![output("a".into()), nowhere], &after(&taken)).await;
    assert!(matches!(refused, Err(LogError::NoSuchPartition { .. })), "{refused:?}");
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 1);
    worker.consumer.rewind().await.expect("rewinds");
    let again = worker.take(1).await;
    worker.consumer.commit(vec![output("right".into())], &after(&again)).await.expect("commits");
    assert_eq!(all_outputs(&log).await, ["right"]);
}

/// A worker that copies its input, killed or rewound at random: the copy is exact and in order.
pub async fn a_loop_restarted_at_random_loses_and_doubles_nothing(engine: &mut dyn Engine, mut log: Log) {
    const COUNT: usize = 500;
    log.append((0..COUNT).map(|n| input("k", &n.to_string())).collect()).await.expect("appends");
    let mut worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    // A small generator of numbers that look random, the same ones in every run.
    let mut state = 7_u32;
    let mut dice = move |sides: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % sides
    };
    while log.lag("g", Topic::Accepted).await.expect("lag") > 0 {
        let polled = worker.poll(1 + dice(20) as usize, Duration::from_millis(50)).await.expect("polls");
        match dice(12) {
            0 => worker.consumer.rewind().await.expect("rewinds"),
            1 => worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await,
            2 => {
                drop(worker);
                log = engine.reopen(log).await;
                worker = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
            }
            _ if polled.is_empty() => {}
            _ => {
                let outputs = polled.iter().map(|record| output(text(record))).collect();
                worker.consumer.commit(outputs, &after(&polled)).await.expect("commits");
            }
        }
    }
    let mut tail = log.tail(Topic::Verdicts, 0, TailFrom::Offset(0)).await.expect("tails");
    let mut copied = Vec::new();
    while copied.len() < COUNT {
        copied.extend(tail.next(100).await.expect("reads").iter().map(text));
    }
    assert_eq!(copied, (0..COUNT).map(|n| n.to_string()).collect::<Vec<_>>());
}
