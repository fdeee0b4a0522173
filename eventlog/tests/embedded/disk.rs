//! A disk that is full, fails, or soon will be.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Consumer, Log, LogError, NewRecord, Polled, SystemClock};
use schemas::{Position, Topic};

use crate::child;

const PATIENCE: Duration = Duration::from_secs(30);

fn open(directory: &Path, memtable_bytes: u64) -> Log {
    let config = EmbeddedConfig {
        min_free_bytes: 0,
        memtable_bytes,
        reopen_delay: Duration::from_millis(50),
        ..EmbeddedConfig::new(directory)
    };
    EmbeddedLog::open(config, Arc::new(SystemClock)).expect("opens")
}

fn message(number: u32) -> NewRecord {
    let value = Bytes::from(number.to_be_bytes().repeat(16 * 1024));
    NewRecord::new(Topic::Accepted, "u", number.to_string(), value)
}

async fn append(log: &Log, number: u32) -> Result<Position, LogError> {
    Ok(log.append(vec![message(number)]).await?[0])
}

/// Appends until it fails; returns what was acknowledged.
async fn append_until_it_fails(log: &Log, from: u32) -> Vec<(u32, Position)> {
    let mut acknowledged = Vec::new();
    for number in from..from + 5000 {
        match append(log, number).await {
            Ok(position) => acknowledged.push((number, position)),
            Err(error) => {
                assert!(error.is_transient(), "a client gets 451 for it: {error}");
                return acknowledged;
            }
        }
    }
    panic!("the disk is never full");
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, LogError>) -> T {
    let all = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => assert!(error.is_transient(), "{what}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn all_there(log: &Log, acknowledged: &[(u32, Position)]) {
    for (number, position) in acknowledged {
        let record =
            eventually("read", async || log.read(*position).await).await.expect("it was acknowledged");
        assert_eq!(record.value, message(*number).value);
    }
}

/// A worker that lives through the failure: it must go on, and must not take as done what it could not commit.
async fn poll_records(consumer: &mut Box<dyn Consumer>) -> Vec<eventlog::Record> {
    eventually("poll", async || {
        loop {
            if let Polled::Records(records) = consumer.poll(1000, Duration::from_secs(5)).await? {
                return Ok(records);
            }
        }
    })
    .await
}

/// What must hold when writes fail for a while, however they come to fail.
async fn lives_through(directory: &Path, memtable_bytes: u64, make_room: impl FnOnce()) {
    let log = open(directory, memtable_bytes);
    let mut consumer = log.join("g", "0", &[Topic::Accepted]).await.expect("joins");
    append(&log, 0).await.expect("there is room for one");
    assert_eq!(poll_records(&mut consumer).await.len(), 1);
    let acknowledged = append_until_it_fails(&log, 1).await;
    assert!(!acknowledged.is_empty());
    make_room();
    let after = eventually("append after room was made", async || append(&log, 5555).await).await;
    log.accepting().expect("mail is taken in again");
    all_there(&log, &acknowledged).await;
    all_there(&log, &[(5555, after)]).await;

    eventually("rewind", async || consumer.rewind().await).await;
    let mut seen = 0;
    while seen < acknowledged.len() + 2 {
        let records = poll_records(&mut consumer).await;
        assert!(seen > 0 || records[0].key == "0", "nothing was committed, so it begins at the start");
        seen += records.len();
        let last = records.last().expect("records").position;
        consumer.commit(vec![], &[(last.topic_partition(), last.offset + 1)]).await.expect("commits");
    }
    log.close().await;
    let log = open(directory, memtable_bytes);
    all_there(&log, &acknowledged).await;
    log.close().await;
}

/// A file system of a fixed size, for as long as it lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_unavailable_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(200) else {
        println!("skipped: mounting a tmpfs needs root; `failing_writes_are_unavailable` runs without");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 120 << 20]).expect("fits");
    let make_room = || std::fs::remove_file(&ballast).expect("is removed");
    lives_through(&disk.0.path().join("log"), 8 << 20, make_room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of its own with a limit on file sizes, started by `failing_writes_are_unavailable`"]
async fn writes_under_a_limit() {
    let Some((directory, _)) = child::task() else { return };
    // Memtables so large that no flush begins a new journal before the limit.
    lives_through(&directory, 256 << 20, || {
        let limit = rustix::process::Rlimit { current: None, maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit)
            .expect("the hard limit allows it");
    })
    .await;
    println!("\nlived through it");
}

/// The kernel refuses writes past a file size, as it refuses them on a full disk; needs no root.
#[tokio::test]
async fn failing_writes_are_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    // An ignored signal stays ignored, so that the write fails instead of ending the process. In units of 512 bytes:
    // journals are 64 MiB from the start and fail soon after.
    let line = "trap '' XFSZ; ulimit -S -f $((66 * 2048)); exec \"$0\" \"$@\"";
    let child = child::command("disk::writes_under_a_limit", directory.path(), 0, Some(line));
    let output = tokio::process::Command::from(child).output().await.expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("lived through it"), "{said}");
}

#[tokio::test]
async fn below_min_free_mail_is_refused_and_workers_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig { min_free_bytes: u64::MAX, ..EmbeddedConfig::new(directory.path()) };
    let log: Log = EmbeddedLog::open(config, Arc::new(SystemClock)).expect("opens");
    let refused = log.accepting().expect_err("there is never so much room");
    assert!(refused.is_transient() && refused.to_string().contains("bytes are free"), "{refused}");
    append(&log, 1).await.expect("workers still write, so that the disk can be drained");
    log.close().await;
}
