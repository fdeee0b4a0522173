//! A table is caught up only when every commit that was under way when it was opened is decided: ingress and scorer judge
//! by what stands there.

use std::time::Duration;

use eventlog::{Log, Record, TableEvent};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::Topic;

use crate::cluster::{Cluster, fresh_prefix};
use crate::work::{PATIENCE, open};

/// A worker in the middle of a commit: it has written its row, and nobody knows yet what becomes of it.
fn write_and_stop(broker: &str, topic: &str) -> BaseProducer {
    let worker: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("transactional.id", format!("{topic}-in-the-middle"))
        .create()
        .expect("a producer");
    worker.init_transactions(PATIENCE).expect("its id");
    worker.begin_transaction().expect("begins");
    let row = BaseRecord::to(topic).partition(0).key("k").payload("row");
    assert!(worker.send(row).is_ok());
    worker.flush(PATIENCE).expect("written");
    worker
}

/// Rows of a table, opened now, until it says that it is caught up.
async fn rows(log: Log) -> Vec<Record> {
    let mut table = log.table(Topic::Senders, Some(&[0])).await.expect("opens");
    let mut rows = Vec::new();
    loop {
        for event in table.next(100).await.expect("events") {
            match event {
                TableEvent::Row(row) => rows.push(row),
                TableEvent::CaughtUp => return rows,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_waits_for_commits_that_are_under_way() {
    let cluster = Cluster::shared();
    for commits in [true, false] {
        let prefix = fresh_prefix();
        let log = open(cluster.config(&prefix)).await;
        let worker = write_and_stop(&cluster.brokers[0], &format!("{prefix}senders"));
        let mut reading = tokio::spawn(rows(log));
        let early = tokio::time::timeout(Duration::from_secs(2), &mut reading).await;
        assert!(early.is_err(), "it is caught up although a row may still come: {early:?}");
        let decided =
            if commits { worker.commit_transaction(PATIENCE) } else { worker.abort_transaction(PATIENCE) };
        decided.expect("decided");
        let rows = tokio::time::timeout(PATIENCE, reading).await.expect("it catches up").expect("rows");
        assert_eq!(rows.len(), usize::from(commits));
    }
}
