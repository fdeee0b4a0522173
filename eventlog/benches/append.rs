//! The embedded log under load: durable appends of 10 KiB by 64 waiting producers and by one, consume-and-commit loops
//! behind them and beside them, and how long opening takes after a kill. `cargo bench -p eventlog --bench append`
//!
//! CPU and memory are of the whole process, producers included.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Consumer, Log, NewRecord, Polled, SystemClock};
use schemas::Topic;
use schemas::topics::TopicPartition;

const BODY_BYTES: usize = 10 * 1024;
const PRODUCERS: usize = 64;
const RECORDS: usize = 50_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    let directory = tempfile::tempdir().expect("directory");
    runtime.block_on(async {
        let log = open(&directory.path().join("behind"));
        appends(&log, PRODUCERS, RECORDS).await;
        let consumer = log.join("scorer", "0", &[Topic::Accepted]).await.expect("joins");
        measured("consume and commit behind them", RECORDS, copy(consumer, RECORDS)).await;
        appends(&log, 1, 2000).await;
        log.close().await;

        let log = open(&directory.path().join("beside"));
        let consumer = log.join("scorer", "0", &[Topic::Accepted]).await.expect("joins");
        let copying = tokio::spawn(copy(consumer, RECORDS));
        let both = async {
            appends(&log, PRODUCERS, RECORDS).await;
            copying.await.expect("copies");
        };
        measured("appended, consumed and committed at once", RECORDS, both).await;
        log.close().await;
        opening(&directory.path().join("beside"));
    });
}

fn open(directory: &Path) -> Log {
    let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory) };
    EmbeddedLog::open(config, Arc::new(SystemClock)).expect("log")
}

/// The journals are what a kill would have left: closing writes no memtable out.
fn opening(directory: &Path) {
    let journals: u64 = std::fs::read_dir(directory.join("data"))
        .expect("data")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jnl"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    let began = Instant::now();
    let log = open(directory);
    println!("opening with {} MiB of journals: {:.2} s", journals >> 20, began.elapsed().as_secs_f64());
    drop(log);
}

async fn measured<T>(what: &str, records: usize, work: impl Future<Output = T>) -> T {
    let (began, cpu) = (Instant::now(), cpu());
    let done = work.await;
    println!(
        "{what}: {:.0}/s, {:.3} ms CPU each, {} MiB resident",
        records as f64 / began.elapsed().as_secs_f64(),
        (self::cpu() - cpu).as_secs_f64() * 1e3 / records as f64,
        resident_mib()
    );
    done
}

async fn appends(log: &Log, producers: usize, records: usize) {
    let work = async {
        let mut tasks = tokio::task::JoinSet::new();
        for producer in 0..producers {
            tasks.spawn(produce(Arc::clone(log), producer, records / producers));
        }
        tasks.join_all().await.concat()
    };
    let mut times = measured(&format!("append 10 KiB, {producers} producers"), records, work).await;
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    println!("    p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

async fn produce(log: Log, producer: usize, records: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(records);
    for _ in 0..records {
        let began = Instant::now();
        let key = Bytes::from(format!("user{producer}"));
        // Each its own buffer, as a message that came in has.
        let body = vec![b'x'; BODY_BYTES];
        let record = NewRecord::new(Topic::Accepted, key.clone(), key, body);
        log.append(vec![record]).await.expect("append");
        times.push(began.elapsed());
    }
    times
}

/// Commits each batch with a record of `released` and a small one of `verdicts` for every one of `accepted`.
async fn copy(mut consumer: Box<dyn Consumer>, records: usize) {
    let mut seen = 0;
    // What does not divide among the producers is not written.
    while seen < records / PRODUCERS * PRODUCERS {
        let Polled::Records(polled) = consumer.poll(256, Duration::from_secs(5)).await.expect("poll") else {
            continue;
        };
        seen += polled.len();
        let mut next: Vec<(TopicPartition, u64)> = Vec::new();
        let mut outputs = Vec::new();
        for record in polled {
            let of = record.position.topic_partition();
            next.retain(|(at, _)| *at != of);
            next.push((of, record.position.offset + 1));
            let body = record.value.expect("value");
            let verdict = body.slice(..300);
            outputs.push(NewRecord::new(Topic::Released, record.key.clone(), record.key.clone(), body));
            outputs.push(NewRecord::new(Topic::Verdicts, record.key.clone(), record.key, verdict));
        }
        consumer.commit(outputs, &next).await.expect("commit");
    }
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // After the name, which may hold spaces: user and system time are the 12th and 13th field, in 1/100 s.
    let rest = stat.rsplit(')').next().expect("fields");
    let ticks = rest.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().expect("a number") * 10).sum())
}

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("resident");
    line.split_whitespace().nth(1).expect("a value").parse::<usize>().expect("a number") / 1024
}
