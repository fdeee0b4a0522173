//! The Kafka engine: a log on a cluster of brokers, shared by any number of processes.
//!
//! Journey of a record: `mod` (append) -> `outgoing` (checked, its partition chosen) -> `producer` -> the brokers ->
//! `consumer` (a member of a group), `table` or `tail` (both over `following`), or `picking` (one record). A worker's
//! outputs and offsets go through `transactions`, as one step. `opening` makes the topics, `clients` holds every setting.

mod assignment;
mod clients;
mod config;
mod consumer;
mod failure;
mod following;
mod health;
mod incoming;
mod leaving;
mod names;
mod notices;
mod offsets;
mod opening;
mod outgoing;
mod picking;
mod producer;
mod receipts;
mod shared;
mod table;
mod tail;
mod topics;
mod transactions;
mod trimming;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

use clients::Clients;
pub use config::{KafkaClientCertificate, KafkaConfig, KafkaSasl, KafkaTls, SaslMechanism};
use consumer::KafkaConsumer;
use names::Names;
pub use opening::OpenError;
use shared::Shared;
use table::KafkaTable;
use tail::KafkaTail;
pub use topics::TopicProblem;

use crate::{Consumer, EventLog, LogError, NewRecord, Record, Table, Tail, TailFrom};

/// How long `close` waits for members and readers to hang up.
const HANG_UP_WITHIN: Duration = Duration::from_secs(5);

/// A log on a Kafka cluster. Dropping it closes it, too, but only `close` waits until everything is written.
pub struct KafkaLog {
    shared: Arc<Shared>,
}

impl KafkaLog {
    /// Connects, makes the topics that are missing and checks those that are there.
    ///
    /// # Errors
    /// What to change: in the configuration, on the cluster, or between the two.
    pub async fn open(config: KafkaConfig) -> Result<Arc<Self>, OpenError> {
        let names = Names::new(&config.prefix);
        let clients = Clients::new(&config, &names);
        opening::prepare(&config, &names, &clients).await?;
        let shared =
            Shared::new(config, names, clients).map_err(|error| OpenError::Client(error.to_string()))?;
        let shared = Arc::new(shared);
        tokio::spawn(health::watch(Arc::clone(&shared)));
        Ok(Arc::new(KafkaLog { shared }))
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.config.partitions(topic)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        self.shared.up()?;
        let records = outgoing::checked(&self.shared.config, &self.shared.names, records)?;
        let appended = self.shared.producer.append(records).await;
        match &appended {
            Ok(_) => self.shared.health.written(),
            Err(LogError::Unavailable(why)) => self.shared.health.failed(why.clone()),
            Err(_) => {}
        }
        appended
    }

    /// As records that no transaction holds up. Whoever reads committed records sees them once no transaction before them is
    /// open, which is why what is announced and what is committed should not share a partition for long.
    async fn announce(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.append(records).await.map(drop)
    }

    async fn join(&self, group: &str, slot: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, LogError> {
        self.shared.up()?;
        Ok(Box::new(KafkaConsumer::join(Arc::clone(&self.shared), group, slot, topics).await?))
    }

    async fn table(&self, topic: Topic, partitions: Option<&[u32]>) -> Result<Box<dyn Table>, LogError> {
        let of = match partitions {
            None => self.shared.all(topic),
            Some(partitions) => partitions
                .iter()
                .map(|partition| self.shared.there(TopicPartition { topic, partition: *partition }))
                .collect::<Result<Vec<_>, _>>()?,
        };
        Ok(Box::new(KafkaTable::open(Arc::clone(&self.shared), of).await?))
    }

    async fn tail(&self, topic: Topic, partition: u32, from: TailFrom) -> Result<Box<dyn Tail>, LogError> {
        let of = self.shared.there(TopicPartition { topic, partition })?;
        self.shared.up()?;
        Ok(Box::new(KafkaTail::open(Arc::clone(&self.shared), of, from).await?))
    }

    async fn read(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.shared.there(position.topic_partition())?;
        self.shared.up()?;
        picking::pick(&self.shared, position).await
    }

    async fn ends(&self, topic: Topic) -> Result<Vec<u64>, LogError> {
        self.shared.up()?;
        let of = self.shared.all(topic);
        self.shared
            .blocking(move |shared| {
                let ends = shared.bounds.ends(&of)?;
                Ok(of.iter().map(|of| ends[of]).collect())
            })
            .await
    }

    async fn lag(&self, group: &str, topic: Topic) -> Result<u64, LogError> {
        let (group, of) = (group.to_owned(), self.shared.all(topic));
        self.shared
            .blocking(move |shared| {
                let committed = shared.bounds.observed(&group, &of)?;
                let (starts, ends) = (shared.bounds.starts(&of)?, shared.bounds.ends(&of)?);
                Ok(of.iter().map(|of| ends[of].saturating_sub(committed[of].max(starts[of]))).sum())
            })
            .await
    }

    async fn trim(
        &self,
        topic: Topic,
        group: &str,
        before: Timestamp,
        spared: &[Position],
    ) -> Result<(), LogError> {
        trimming::trim(&self.shared, topic, group, before, spared).await
    }

    fn accepting(&self) -> Result<(), LogError> {
        self.shared.up()?;
        self.shared.health.accepting()
    }

    async fn close(&self) {
        self.shared.closed.cancel();
        self.shared.producer.close().await;
        self.shared.pickers.close();
        self.shared.departures.all_gone(HANG_UP_WITHIN).await;
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}
