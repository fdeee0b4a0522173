//! A copy of the whole log, taken while it is written to, opens as a log of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use eventlog::embedded::{BACKUP_MARK, EmbeddedConfig, EmbeddedLog};
use eventlog::{EventLog, Log, NewRecord, Polled, SystemClock, TableEvent, TailFrom};
use schemas::Topic;

fn open(directory: &std::path::Path) -> Arc<EmbeddedLog> {
    // Memtables are written out and epochs cut all the time, so that copies hit that, too.
    let config = EmbeddedConfig {
        min_free_bytes: 0,
        memtable_bytes: 128 << 10,
        small_memtable_bytes: 16 << 10,
        epoch_bytes: 4 << 20,
        ..EmbeddedConfig::new(directory)
    };
    EmbeddedLog::open(config, Arc::new(SystemClock)).expect("opens")
}

/// Appends a message and a row in one step, over and over; the newest number that is durable is in `done`.
async fn write(log: Log, done: Arc<AtomicU32>, stop: Arc<AtomicBool>) {
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let value = format!("{number} {}", "x".repeat(number as usize * 997 % 9000));
        let message = NewRecord::new(Topic::Accepted, "", "m", value).in_partition(0);
        let row = NewRecord::new(Topic::Senders, "", format!("k{}", number % 50), number.to_string())
            .in_partition(0);
        log.append(vec![message, row]).await.expect("appends");
        done.store(number, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_taken_while_writing_open_and_are_consistent() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = open(&directory.path().join("log"));
    let (done, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let writing = tokio::spawn(write(log.clone(), Arc::clone(&done), Arc::clone(&stop)));
    let mut copies = Vec::new();
    for number in 0..6 {
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 150 {
            tokio::task::yield_now().await;
        }
        let at_least = done.load(Ordering::Relaxed);
        let copy = directory.path().join(format!("copy{number}"));
        log.backup(&copy).await.expect("is copied");
        copies.push((copy, at_least, done.load(Ordering::Relaxed) + 1));
    }
    let refused = log.backup(&copies[0].0).await.expect_err("it is there already");
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    stop.store(true, Ordering::Relaxed);
    writing.await.expect("writes");
    log.close().await;
    assert!(!directory.path().join("log/backup.staging").exists());
    assert!(copies.iter().all(|(copy, ..)| copy.join(BACKUP_MARK).exists()));
    for (copy, at_least, at_most) in copies {
        let restored = open(&copy);
        let last = check(&*restored).await;
        assert!((at_least..=at_most).contains(&last), "{at_least} <= {last} <= {at_most}");
        // A log like any other.
        let more = NewRecord::new(Topic::Accepted, "", "m", "more").in_partition(0);
        let position = restored.append(vec![more]).await.expect("appends")[0];
        assert_eq!(position.offset, u64::from(last));
        restored.close().await;
    }
}

/// Messages are 1 to n without a gap, and the rows are what these n steps make of them. Returns n.
async fn check(log: &dyn EventLog) -> u32 {
    let mut tail = log.tail(Topic::Accepted, 0, TailFrom::Offset(0)).await.expect("tails");
    let mut last = 0;
    // Only partition 0 is written to, and nothing is dropped.
    let count = log.lag("nobody", Topic::Accepted).await.expect("lag");
    while u64::from(last) < count {
        for record in tail.next(500).await.expect("reads") {
            let value = record.value.expect("a value");
            let text = std::str::from_utf8(&value).expect("text");
            let number: u32 = text.split(' ').next().expect("a number").parse().expect("a number");
            assert_eq!(number, last + 1, "no gap");
            last = number;
        }
    }
    let mut table = log.table(Topic::Senders, None).await.expect("opens");
    let mut rows = BTreeMap::new();
    'replay: loop {
        for event in table.next(20).await.expect("reads") {
            let TableEvent::Row(row) = event else { break 'replay };
            let value = String::from_utf8(row.value.expect("a value").to_vec()).expect("text");
            rows.insert(row.key, value.parse::<u32>().expect("a number"));
        }
    }
    let mut newest: Vec<u32> = rows.into_values().collect();
    newest.sort_unstable();
    assert_eq!(newest, (last.saturating_sub(49).max(1)..=last).collect::<Vec<_>>());
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_knows_what_groups_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = open(&directory.path().join("log"));
    for number in 0..10 {
        let record = NewRecord::new(Topic::Accepted, "u", number.to_string(), "value");
        log.append(vec![record]).await.expect("appends");
    }
    let mut consumer = log.join("g", "0", &[Topic::Accepted]).await.expect("joins");
    loop {
        if let Polled::Records(records) = consumer.poll(4, Duration::from_secs(5)).await.expect("polls") {
            let last = records.last().expect("records").position;
            consumer.commit(vec![], &[(last.topic_partition(), last.offset + 1)]).await.expect("commits");
            break;
        }
    }
    let copy = directory.path().join("copy");
    log.backup(&copy).await.expect("is copied");
    log.close().await;
    let restored = open(&copy);
    assert_eq!(restored.lag("g", Topic::Accepted).await.expect("lag"), 6);
    restored.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_on_when_whoever_asked_for_it_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = open(&directory.path().join("log"));
    let copy = directory.path().join("copy");
    let staging = directory.path().join("log/backup.staging");
    // Dropped after its first step, if that was not all.
    let _ = tokio::time::timeout(Duration::ZERO, log.backup(&copy)).await;
    let done = async {
        while !copy.join(BACKUP_MARK).exists() || staging.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.expect("it is done all the same");
    log.close().await;
    open(&copy).close().await;
}

#[tokio::test]
async fn what_an_interrupted_backup_left_goes_when_the_log_is_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let staged = directory.path().join("backup.staging/data");
    std::fs::create_dir_all(&staged).expect("is made");
    std::fs::write(staged.join("0.jnl"), "old mail").expect("is written");
    let log = open(directory.path());
    assert!(!directory.path().join("backup.staging").exists());
    log.close().await;
}
