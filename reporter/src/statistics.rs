//! The statistics loop: batches of `verdicts` and `attempts` into the store, whose own offsets are the truth.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Consumer, Log, LogError, Polled, Record};
use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio_util::sync::CancellationToken;

use crate::rows::{self, Change};
use crate::{Config, Error, Metrics, StatsStore};

const BATCH: usize = 2000;
const AGAIN: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

pub(crate) async fn run(
    config: Arc<Config>,
    store: Arc<dyn StatsStore>,
    log: Log,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let expire = expire(Arc::clone(&store), config.keep, Arc::clone(&clock));
    let fold = async {
        loop {
            match fold(&config, &store, &log, &metrics, &shutdown).await {
                Ok(()) | Err(Error::Log(LogError::Closed)) => return,
                Err(error) => {
                    tracing::warn!(%error, "statistics lost their place and begin again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = fold => {}
        () = expire => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(Duration::from_secs(5)).await } => {}
    }
}

async fn fold(
    config: &Config,
    store: &Arc<dyn StatsStore>,
    log: &Log,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut consumer = log.join("reporter", &config.node, &[Topic::Verdicts, Topic::Attempts]).await?;
    loop {
        let polled = tokio::select! {
            () = shutdown.cancelled() => {
                consumer.leave().await;
                return Ok(());
            }
            polled = consumer.poll(BATCH, Duration::from_secs(1)) => polled,
        };
        match polled {
            Ok(Polled::Records(records)) => {
                take(store, records, metrics, &mut *consumer).await?;
                // Statistics may be a moment behind: larger batches cost less.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Polled::Assigned(partitions)) => {
                catch_up(store, log, &partitions, consumer.positions(), metrics).await?
            }
            Ok(_) => {}
            Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn take(
    store: &Arc<dyn StatsStore>,
    records: Vec<Record>,
    metrics: &Metrics,
    consumer: &mut dyn Consumer,
) -> Result<(), Error> {
    let next = insert(store, records, metrics).await;
    let offsets: Vec<_> = next
        .iter()
        .map(|((topic, partition), offset)| {
            (TopicPartition { topic: *topic, partition: *partition }, *offset)
        })
        .collect();
    loop {
        match consumer.commit(Vec::new(), &offsets).await {
            Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
            result => return result.map(drop).map_err(Error::from),
        }
    }
}

/// Puts records into the store, however long it takes; returns the offsets behind them.
async fn insert(
    store: &Arc<dyn StatsStore>,
    records: Vec<Record>,
    metrics: &Metrics,
) -> HashMap<(Topic, u32), u64> {
    let mut next = HashMap::new();
    for record in &records {
        next.insert((record.position.topic, record.position.partition), record.position.offset + 1);
    }
    let changes: Arc<Vec<Change>> = Arc::new(
        records
            .iter()
            .filter_map(|record| rows::change_of(record.position, record.value.as_deref()?))
            .collect(),
    );
    let moved: Arc<Vec<_>> =
        Arc::new(next.iter().map(|((topic, partition), offset)| (*topic, *partition, *offset)).collect());
    loop {
        let (store, changes, moved) = (Arc::clone(store), Arc::clone(&changes), Arc::clone(&moved));
        let inserted = tokio::task::spawn_blocking(move || store.insert(&changes, &moved)).await;
        match inserted {
            Ok(Ok(())) => break,
            Ok(Err(error)) => tracing::warn!(%error, "statistics cannot be stored, trying again"),
            Err(panic) => tracing::error!(%panic, "the statistics store panicked, trying again"),
        }
        metrics.store_failures.inc();
        tokio::time::sleep(AGAIN).await;
    }
    metrics.events.inc_by(records.len() as u64);
    next
}

/// A store that is behind the group (it was deleted, or lost its last batch in a crash) reads what it lacks.
async fn catch_up(
    store: &Arc<dyn StatsStore>,
    log: &Log,
    partitions: &[TopicPartition],
    owned: Vec<(TopicPartition, u64)>,
    metrics: &Metrics,
) -> Result<(), Error> {
    let known = {
        let store = Arc::clone(store);
        tokio::task::spawn_blocking(move || store.offsets())
            .await
            .map_err(|error| Error::Store(error.to_string()))??
    };
    for (at, committed) in owned {
        let has = known.get(&(at.topic, at.partition)).copied().unwrap_or(0);
        if !partitions.contains(&at) || has >= committed {
            continue;
        }
        tracing::info!(topic = %at.topic, partition = at.partition, from = has, to = committed, "statistics read what they lack");
        let mut tail = log.tail(at.topic, at.partition, eventlog::TailFrom::Offset(has)).await?;
        let mut reached = has;
        while reached < committed {
            // What is past its retention is gone: a partition whose kept records end before `committed` has nothing to give.
            let Ok(records) = tokio::time::timeout(Duration::from_secs(2), tail.next(BATCH)).await else {
                break;
            };
            let records: Vec<Record> =
                records?.into_iter().filter(|record| record.position.offset < committed).collect();
            let Some(last) = records.last() else { break };
            reached = last.position.offset + 1;
            insert(store, records, metrics).await;
        }
    }
    Ok(())
}

async fn expire(store: Arc<dyn StatsStore>, keep: Duration, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        let limit = clock.now().minus(keep);
        loop {
            let store = Arc::clone(&store);
            match tokio::task::spawn_blocking(move || store.expire(limit)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "old statistics cannot be deleted now");
                    break;
                }
                Err(_) => break,
            }
        }
    }
}
