//! The statistics loop: batches of `verdicts` and `attempts` into the store, whose own offsets are the truth.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Consumer, Log, LogError, Polled, Record, TailFrom};
use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio_util::sync::CancellationToken;

use crate::patience::Patience;
use crate::rows;
use crate::store::{Batch, Covered, Inserted};
use crate::{Config, Error, Metrics, StatsStore};

/// Records of a batch.
const BATCH: usize = 2000;
/// Statistics may be a moment behind: larger batches cost less.
const GATHER: Duration = Duration::from_millis(100);
/// A part of the log that gives nothing for so long has nothing: its retention is over.
const NOTHING_KEPT: Duration = Duration::from_secs(10);
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

pub(crate) async fn run(
    config: Arc<Config>,
    store: Arc<dyn StatsStore>,
    log: Log,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let expire = expire(Arc::clone(&store), config.keep, clock);
    let fold = Fold { config, store, log, metrics };
    tokio::select! {
        () = fold.run(&shutdown) => {}
        () = expire => {}
    }
}

struct Fold {
    config: Arc<Config>,
    store: Arc<dyn StatsStore>,
    log: Log,
    metrics: Metrics,
}

impl Fold {
    async fn run(&self, shutdown: &CancellationToken) {
        let mut patience = Patience::new();
        loop {
            match self.follow(&mut patience, shutdown).await {
                Ok(()) | Err(Error::Log(LogError::Closed)) => return,
                Err(error) => tracing::warn!(%error, "statistics lost their place and begin again"),
            }
            if !patience.pause_unless(shutdown).await {
                return;
            }
        }
    }

    /// As a member of the group, until `shutdown` or an error. After an error the fate of the last commit is unknown:
    /// joining again begins at what was committed, and what the store took already counts once.
    async fn follow(&self, patience: &mut Patience, shutdown: &CancellationToken) -> Result<(), Error> {
        let topics = [Topic::Verdicts, Topic::Attempts];
        let mut consumer = self.log.join("reporter", &self.config.node, &topics).await?;
        loop {
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    consumer.leave().await;
                    return Ok(());
                }
                step = self.step(&mut *consumer) => step,
            };
            step?;
            patience.it_worked();
        }
    }

    async fn step(&self, consumer: &mut dyn Consumer) -> Result<(), Error> {
        match consumer.poll(BATCH, Duration::from_secs(1)).await? {
            Polled::Records(records) => {
                self.take(&records, consumer).await?;
                tokio::time::sleep(GATHER).await;
            }
            Polled::Assigned(partitions) => self.catch_up(&partitions, consumer.positions()).await?,
            Polled::Revoked(_) | Polled::Nothing => {}
        }
        Ok(())
    }

    async fn take(&self, records: &[Record], consumer: &mut dyn Consumer) -> Result<(), Error> {
        let committed: HashMap<_, _> = consumer.positions().into_iter().collect();
        let batch = Arc::new(self.batch_of(records, &committed));
        while self.insert(&batch).await == Inserted::Behind {
            let partitions: Vec<_> = batch.covered.iter().map(|covered| covered.at).collect();
            self.catch_up(&partitions, consumer.positions()).await?;
        }
        let next: Vec<_> = batch.covered.iter().map(|covered| (covered.at, covered.next)).collect();
        consumer.commit(Vec::new(), &next).await?;
        Ok(())
    }

    /// `begins`: where each partition's part of the batch begins, when that is known to be before its first record.
    fn batch_of(&self, records: &[Record], begins: &HashMap<TopicPartition, u64>) -> Batch {
        let mut next: HashMap<TopicPartition, Covered> = HashMap::new();
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            let (at, offset) = (record.position.topic_partition(), record.position.offset);
            let from = begins.get(&at).copied().unwrap_or(offset);
            next.entry(at).or_insert(Covered { at, from, next: offset }).next = offset + 1;
            let Some(value) = record.value.as_deref() else { continue };
            match rows::change_of(record.position, value) {
                Ok(change) => changes.extend(change),
                Err(error) => {
                    self.metrics.unreadable.inc();
                    tracing::error!(position = %record.position, %error, "an event does not parse, it is passed over");
                }
            }
        }
        self.metrics.events.inc_by(records.len() as u64);
        Batch { changes, covered: next.into_values().collect() }
    }

    /// Until the store answers, however long it takes.
    async fn insert(&self, batch: &Arc<Batch>) -> Inserted {
        let batch = Arc::clone(batch);
        self.patiently(move |store| store.insert(&batch)).await
    }

    async fn patiently<T: Send + 'static>(
        &self,
        call: impl Fn(&dyn StatsStore) -> Result<T, Error> + Clone + Send + 'static,
    ) -> T {
        let mut patience = Patience::new();
        loop {
            let (store, call) = (Arc::clone(&self.store), call.clone());
            match tokio::task::spawn_blocking(move || call(store.as_ref())).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => tracing::warn!(%error, "statistics cannot be stored, trying again"),
                Err(panic) => tracing::error!(%panic, "the statistics store panicked, trying again"),
            }
            self.metrics.store_failures.inc();
            patience.pause().await;
        }
    }

    /// A store that is behind the group (it was deleted, or lost its last batch in a crash) reads what it lacks.
    async fn catch_up(
        &self,
        partitions: &[TopicPartition],
        positions: Vec<(TopicPartition, u64)>,
    ) -> Result<(), Error> {
        let taken = self.patiently(StatsStore::offsets).await;
        for (at, committed) in positions {
            let from = taken.get(&at).copied().unwrap_or(0);
            if partitions.contains(&at) && from < committed {
                tracing::info!(topic = %at.topic, partition = at.partition, from, to = committed, "statistics read what they lack");
                self.read_between(at, from, committed).await?;
            }
        }
        Ok(())
    }

    async fn read_between(&self, at: TopicPartition, mut from: u64, end: u64) -> Result<(), Error> {
        let mut tail = self.log.tail(at.topic, at.partition, TailFrom::Offset(from)).await?;
        while from < end {
            let mut records = match tokio::time::timeout(NOTHING_KEPT, tail.next(BATCH)).await {
                Ok(records) => records?,
                Err(_) => Vec::new(),
            };
            let last = records.last().map(|record| record.position.offset);
            records.retain(|record| record.position.offset < end);
            // Where nothing is kept any more, and behind the last record before `end`, there is nothing to wait for.
            let next = last.map_or(end, |last| end.min(last + 1));
            let mut batch = self.batch_of(&records, &HashMap::new());
            batch.covered = vec![Covered { at, from, next }];
            // The file may be deleted once more meanwhile.
            if self.insert(&Arc::new(batch)).await == Inserted::Behind {
                return Ok(());
            }
            from = next;
        }
        Ok(())
    }
}

/// Deletes what is older than `keep`, again and again.
async fn expire(store: Arc<dyn StatsStore>, keep: Duration, clock: Arc<dyn Clock>) {
    loop {
        let now = clock.now();
        let limit = now.minus(keep);
        loop {
            let store = Arc::clone(&store);
            match tokio::task::spawn_blocking(move || store.expire(limit)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "old statistics cannot be deleted now");
                    break;
                }
                Err(panic) => {
                    tracing::error!(%panic, "the statistics store panicked");
                    break;
                }
            }
        }
        clock.sleep_until(now.plus(EXPIRE_EVERY)).await;
    }
}
