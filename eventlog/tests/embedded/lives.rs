//! Epochs come and go for as long as the log is open. What the database keeps of each must not pile up, for which it is
//! closed and opened again, and nobody may notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{EventLog, ManualClock, NewRecord, Polled, TableEvent, TailFrom};
use schemas::{Position, Timestamp, Topic};

const LIVES: u64 = 40;
const ROWS: usize = 30;

/// Reads in every way there is, from disk, until it is stopped; says how often.
async fn read(log: Arc<EmbeddedLog>, group: &str, first: Position, stop: Arc<AtomicBool>) -> u32 {
    let mut consumer = log.join(group, "0", &[Topic::Senders]).await.expect("joins");
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) || rounds == 0 {
        assert!(log.read(first).await.expect("reads").is_some());
        log.lag("nobody", Topic::Settings).await.expect("the lag is known");
        log.accepting().expect("takes mail in");
        let mut tail =
            log.tail(first.topic, first.partition, TailFrom::Offset(first.offset)).await.expect("tails");
        assert!(!tail.next(1).await.expect("reads").is_empty());
        assert_eq!(rows(&log).await, ROWS);
        match consumer.poll(7, Duration::ZERO).await.expect("polls") {
            Polled::Revoked(_) => panic!("what it owns is not taken away"),
            Polled::Records(records) => {
                let last = records.last().expect("records").position;
                consumer.commit(vec![], &[(last.topic_partition(), last.offset + 1)]).await.expect("commits");
            }
            Polled::Assigned(_) | Polled::Nothing => {}
        }
        rounds += 1;
    }
    rounds
}

/// How many rows a table gives, step by step, before it has caught up.
async fn rows(log: &EmbeddedLog) -> usize {
    let mut table = log.table(Topic::Senders, Some(&[0])).await.expect("opens");
    let mut rows = 0;
    loop {
        for event in table.next(7).await.expect("reads") {
            match event {
                TableEvent::Row(_) => rows += 1,
                TableEvent::CaughtUp => return rows,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_the_database_is_closed_and_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = ManualClock::starting_at(Timestamp(1_795_512_600_000));
    let config = EmbeddedConfig {
        min_free_bytes: 0,
        recent_bytes: 0,
        catalogue_bytes: 128 << 10,
        ..EmbeddedConfig::new(directory.path())
    };
    let log = EmbeddedLog::open(config, Arc::new(clock.clone())).expect("opens");
    let record =
        |number: usize| NewRecord::new(Topic::Senders, "", number.to_string(), "value").in_partition(0);
    let first = log.append((0..ROWS).map(record).collect()).await.expect("appends")[0];
    let stop = Arc::new(AtomicBool::new(false));
    let readers =
        ["a", "b", "c"].map(|group| tokio::spawn(read(log.clone(), group, first, Arc::clone(&stop))));
    for number in 0..LIVES {
        let reply = NewRecord::new(Topic::Replies, "", "key", "value").in_partition(0);
        assert_eq!(log.append(vec![reply]).await.expect("appends")[0].offset, number);
        clock.advance(Duration::from_secs(24 * 3600));
        log.enforce_retention().await.expect("retention");
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.expect("nothing failed") > 10);
    }
    log.close().await;
}
