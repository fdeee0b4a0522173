//! Opening: alone, quickly, and in little memory, also with as many keyspaces as there can be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{EventLog, LogError, ManualClock, NewRecord};
use schemas::topics::Retention;
use schemas::{Timestamp, Topic};

use crate::child;

fn config(directory: &std::path::Path) -> EmbeddedConfig {
    EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory) }
}

#[tokio::test]
async fn one_at_a_time_and_the_second_is_told_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(ManualClock::starting_at(Timestamp(0)));
    let log = EmbeddedLog::open(config(directory.path()), clock.clone()).expect("opens");
    let Err(refused) = EmbeddedLog::open(config(directory.path()), clock.clone()) else {
        panic!("two own one directory")
    };
    let said = refused.to_string();
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    assert!(said.contains(&directory.path().display().to_string()), "{said}");
    log.close().await;
    let other = EmbeddedConfig { partitions: 9, ..config(directory.path()) };
    let log = EmbeddedLog::open(other, clock).expect("is free after it was closed");
    assert_eq!(log.partitions(Topic::Accepted), 4, "the count is what the log was created with");
    assert!(matches!(log.append(vec![]).await, Ok(none) if none.is_empty()));
    log.close().await;
    assert!(matches!(log.accepting(), Err(LogError::Closed)));
}

/// All topics, partitions and epochs that a log can have at a time.
#[tokio::test]
async fn the_largest_number_of_keyspaces_opens_quickly() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = child::command("opening::opens_what_is_there", directory.path(), 0, None);
    let output = tokio::process::Command::from(child).output().await.expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let opened = said.lines().find(|line| line.contains("opened in"));
    assert!(output.status.success() && opened.is_some(), "{said}");
    println!("{}", opened.unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of its own, so that threads and memory are the log's alone; started by the test above"]
async fn opens_what_is_there() {
    let Some((directory, _)) = child::task() else { return };
    let began_at = Timestamp(1_795_512_600_000);
    let clock = ManualClock::starting_at(began_at);
    // Retention is not looked at: as many epochs as there may be shall be there.
    let keeping = EmbeddedConfig { retention_interval: Duration::from_secs(1 << 40), ..config(&directory) };
    let log = EmbeddedLog::open(keeping.clone(), Arc::new(clock.clone())).expect("opens");
    log.enforce_retention().await.expect("the first look is over");
    let mut written = Vec::new();
    for _ in 0..7 {
        for topic in Topic::ALL {
            let records = (0..log.partitions(topic))
                .map(|p| {
                    NewRecord::new(topic, "", format!("k{}", written.len()), vec![7; 2000]).in_partition(p)
                })
                .collect();
            written.extend(log.append(records).await.expect("appends"));
        }
        // Each topic by its own time would be kept; one step cuts an epoch of every one of them.
        let longest = Topic::ALL.iter().filter_map(|topic| match topic.retention() {
            Retention::Time(kept) => Some(kept),
            Retention::Compacted => None,
        });
        clock.advance(longest.max().expect("topics kept by time") / 6);
    }
    log.close().await;
    let threads_before = threads();
    let began = Instant::now();
    let log = EmbeddedLog::open(keeping, Arc::new(ManualClock::starting_at(began_at))).expect("opens");
    let took = began.elapsed();
    println!(
        "\n{} keyspaces' worth of records: opened in {took:?}, {} threads, {} KiB resident",
        written.len(),
        threads().saturating_sub(threads_before),
        resident_kib()
    );
    assert!(took < Duration::from_secs(5), "opening took {took:?}");
    assert!(threads().saturating_sub(threads_before) <= 4, "no thread for each keyspace");
    assert!(resident_kib() < 200 * 1024);
    for position in &written {
        let record = log.read(*position).await.expect("reads");
        assert_eq!(record.expect("is kept").value.map(|value| value.len()), Some(2000), "{position}");
    }
    log.close().await;
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
}

fn threads() -> usize {
    status("Threads:")
}

fn resident_kib() -> usize {
    status("VmRSS:")
}
