//! Durable appends of 10 KiB by 64 waiting producers, and a consume-commit loop behind them.
//! `cargo bench -p eventlog`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Log, NewRecord, Polled, SystemClock};
use schemas::Topic;
use schemas::topics::TopicPartition;

const PRODUCERS: usize = 64;
const PER_PRODUCER: usize = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("directory");
        let config =
            EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory.path().join("log")) };
        let log: Log = EmbeddedLog::open(config, Arc::new(SystemClock)).expect("log");
        appends(&log).await;
        consume(&log).await;
        log.close().await;
    });
}

async fn appends(log: &Log) {
    let body = Bytes::from(vec![b'x'; 10 * 1024]);
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let (log, body) = (Arc::clone(log), body.clone());
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(PER_PRODUCER);
            for _ in 0..PER_PRODUCER {
                let began = Instant::now();
                let key = Bytes::from(format!("user{producer}"));
                log.append(vec![NewRecord::new(Topic::Accepted, key.clone(), key, body.clone())])
                    .await
                    .expect("append");
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let elapsed = began.elapsed();
    times.sort_unstable();
    println!(
        "append 10 KiB, {PRODUCERS} producers: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms",
        times.len() as f64 / elapsed.as_secs_f64(),
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() * 99 / 100].as_secs_f64() * 1e3
    );
}

/// Reads everything and commits each batch with as many records of `released` as it had of `accepted`.
async fn consume(log: &Log) {
    let mut consumer = log.join("scorer", "one", &[Topic::Accepted]).await.expect("join");
    let began = Instant::now();
    let mut seen = 0;
    while seen < PRODUCERS * PER_PRODUCER {
        let Polled::Records(records) = consumer.poll(256, Duration::from_secs(5)).await.expect("poll") else {
            continue;
        };
        seen += records.len();
        let mut next: Vec<(TopicPartition, u64)> = Vec::new();
        let mut outputs = Vec::new();
        for record in records {
            next.retain(|(at, _)| *at != record.position.topic_partition());
            next.push((record.position.topic_partition(), record.position.offset + 1));
            outputs.push(NewRecord::new(
                Topic::Released,
                record.key.clone(),
                record.key,
                record.value.expect("value"),
            ));
        }
        consumer.commit(outputs, &next).await.expect("commit");
    }
    println!("consume and commit 10 KiB: {:.0}/s", seen as f64 / began.elapsed().as_secs_f64());
}
