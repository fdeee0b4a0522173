//! The statistics loop: batches of `verdicts` and `attempts` into the store, whose own offsets are the truth.

mod expire;
mod plans;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Consumer, Log, LogError, Polled, Record, TailFrom};
use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::patience::Patience;
use crate::rows;
use crate::store::{Batch, Batching, Covered, Inserted};
use crate::{Config, Error, Metrics, StatsStore};
use plans::Plans;

/// Records that are asked for at once; they are larger than what is kept of them.
const POLL: usize = 2000;
/// A part of the log that gives nothing for so long has nothing: its retention is over.
const NOTHING_KEPT: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    config: Arc<Config>,
    store: Arc<dyn StatsStore>,
    log: Log,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let expire = expire::run(Arc::clone(&store), config.keep, clock);
    let batching = store.batching();
    let fold = Fold { config, store, batching, log, metrics };
    tokio::select! {
        () = fold.run(&shutdown) => {}
        () = expire => {}
    }
}

struct Fold {
    config: Arc<Config>,
    store: Arc<dyn StatsStore>,
    batching: Batching,
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
        match consumer.poll(POLL, Duration::from_secs(1)).await? {
            Polled::Records(records) => {
                let begins = consumer.positions().into_iter().collect();
                let mut batch = Batch::default();
                self.add(&records, &begins, &mut batch);
                match self.gather(&mut batch, &begins, consumer).await? {
                    None => self.take(batch, consumer).await?,
                    // The partitions are others now: what was polled may belong to somebody else.
                    Some(partitions) => {
                        consumer.rewind().await?;
                        self.begin(&partitions, consumer).await?;
                    }
                }
            }
            Polled::Assigned(partitions) => self.begin(&partitions, consumer).await?,
            Polled::Revoked(_) | Polled::Nothing => {}
        }
        Ok(())
    }

    /// Adds what comes until the batch is large or old enough. When the assignment changes: which partitions are new.
    async fn gather(
        &self,
        batch: &mut Batch,
        begins: &HashMap<TopicPartition, u64>,
        consumer: &mut dyn Consumer,
    ) -> Result<Option<Vec<TopicPartition>>, Error> {
        let until = Instant::now() + self.batching.gather;
        while batch.changes.len() < self.batching.records {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match consumer.poll(POLL, left).await? {
                Polled::Records(records) => self.add(&records, begins, batch),
                Polled::Assigned(partitions) => return Ok(Some(partitions)),
                Polled::Revoked(_) => return Ok(Some(Vec::new())),
                Polled::Nothing => {}
            }
        }
        Ok(None)
    }

    async fn take(&self, batch: Batch, consumer: &mut dyn Consumer) -> Result<(), Error> {
        let batch = Arc::new(batch);
        loop {
            self.plan(&batch.covered, consumer).await?;
            if self.insert(&batch).await == Inserted::Taken {
                break;
            }
            // Plans of its own, in place of the one that was written just now.
            let partitions: Vec<_> = batch.covered.iter().map(|covered| covered.at).collect();
            self.catch_up(&partitions, consumer).await?;
        }
        let next: Vec<_> = batch.covered.iter().map(|covered| (covered.at, covered.next)).collect();
        consumer.commit(Vec::new(), &next).await?;
        Ok(())
    }

    /// The offsets go along, so that only the owner of the partitions plans.
    async fn plan(&self, covered: &[Covered], consumer: &mut dyn Consumer) -> Result<(), Error> {
        if self.batching.is_planned {
            let records = covered.iter().map(|covered| plans::record(&plans::plan(covered))).collect();
            let positions = consumer.positions();
            consumer.commit(records, &positions).await?;
        }
        Ok(())
    }

    /// `begins`: where each partition's part of the batch begins, when that is known to be before its first record.
    fn add(&self, records: &[Record], begins: &HashMap<TopicPartition, u64>, batch: &mut Batch) {
        for record in records {
            let (at, offset) = (record.position.topic_partition(), record.position.offset);
            match batch.covered.iter_mut().find(|covered| covered.at == at) {
                Some(covered) => covered.next = offset + 1,
                None => {
                    let from = begins.get(&at).copied().unwrap_or(offset);
                    batch.covered.push(Covered { at, from, next: offset + 1 });
                }
            }
            let Some(value) = record.value.as_deref() else { continue };
            match rows::change_of(record.position, value) {
                Ok(change) => batch.changes.extend(change),
                Err(error) => {
                    self.metrics.unreadable.inc();
                    tracing::error!(position = %record.position, %error, "an event does not parse, it is passed over");
                }
            }
        }
        self.metrics.events.inc_by(records.len() as u64);
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

    /// New partitions: first what the store lacks, then what the member before had planned and may have inserted.
    async fn begin(&self, partitions: &[TopicPartition], consumer: &mut dyn Consumer) -> Result<(), Error> {
        self.catch_up(partitions, consumer).await?;
        if !self.batching.is_planned {
            return Ok(());
        }
        let plans = Plans::read(&self.log).await?;
        for (at, committed) in consumer.positions() {
            let Some(end) = plans.end(at, committed).filter(|_| partitions.contains(&at)) else { continue };
            tracing::info!(topic = %at.topic, partition = at.partition, from = committed, to = end, "a planned batch is inserted again");
            let batch = self.read(at, committed, end, usize::MAX).await?;
            self.take(batch, consumer).await?;
        }
        Ok(consumer.rewind().await?)
    }

    /// A store that is behind the group (it was deleted, or lost its last batch in a crash) reads what it lacks.
    async fn catch_up(
        &self,
        partitions: &[TopicPartition],
        consumer: &mut dyn Consumer,
    ) -> Result<(), Error> {
        let taken = self.patiently(StatsStore::offsets).await;
        let mut plans = None;
        for (at, committed) in consumer.positions() {
            let mut from = taken.get(&at).copied().unwrap_or(0);
            if !partitions.contains(&at) || from >= committed {
                continue;
            }
            if plans.is_none() && self.batching.is_planned {
                plans = Some(Plans::read(&self.log).await?);
            }
            tracing::info!(topic = %at.topic, partition = at.partition, from, to = committed, "statistics read what they lack");
            while from < committed {
                let planned = plans.as_ref().and_then(|plans| plans.end(at, from));
                let limit = if planned.is_some() { usize::MAX } else { self.batching.records };
                let batch = self.read(at, from, planned.unwrap_or(committed), limit).await?;
                let next = batch.covered.first().map_or(committed, |covered| covered.next);
                if planned.is_none() {
                    self.plan(&batch.covered, consumer).await?;
                }
                // The database may be deleted once more meanwhile.
                if self.insert(&Arc::new(batch)).await == Inserted::Behind {
                    break;
                }
                from = next;
            }
        }
        Ok(())
    }

    /// What stands in the log from `from` on, up to `end` or until there are `limit` changes.
    async fn read(&self, at: TopicPartition, from: u64, end: u64, limit: usize) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let mut next = from;
        let mut tail = self.log.tail(at.topic, at.partition, TailFrom::Offset(from)).await?;
        while next < end && batch.changes.len() < limit {
            let mut records = match tokio::time::timeout(NOTHING_KEPT, tail.next(POLL)).await {
                Ok(records) => records?,
                Err(_) => Vec::new(),
            };
            let last = records.last().map(|record| record.position.offset);
            records.retain(|record| record.position.offset < end);
            self.add(&records, &HashMap::new(), &mut batch);
            // Where nothing is kept any more, and behind the last record before `end`, there is nothing to wait for.
            next = last.map_or(end, |last| end.min(last + 1));
        }
        batch.covered = vec![Covered { at, from, next }];
        Ok(batch)
    }
}
