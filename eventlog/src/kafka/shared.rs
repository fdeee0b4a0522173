//! What the handle, the members and the readers share.

use std::sync::Arc;

use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::config::KafkaConfig;
use super::health::Health;
use super::leaving::Departures;
use super::names::Names;
use super::offsets::Bounds;
use super::picking::Pickers;
use super::producer::Producer;
use crate::LogError;

pub(super) struct Shared {
    pub(super) config: KafkaConfig,
    pub(super) names: Names,
    pub(super) clients: Clients,
    pub(super) producer: Producer,
    pub(super) bounds: Bounds,
    pub(super) pickers: Pickers,
    pub(super) health: Health,
    pub(super) departures: Departures,
    pub(super) closed: CancellationToken,
}

impl Shared {
    pub(super) fn new(config: KafkaConfig, names: Names, clients: Clients) -> Result<Self, LogError> {
        Ok(Shared {
            producer: Producer::new(&clients)?,
            bounds: Bounds::new(&clients, &names)?,
            pickers: Pickers::new(&clients),
            health: Health::default(),
            departures: Departures::new(),
            closed: CancellationToken::new(),
            config,
            names,
            clients,
        })
    }

    pub(super) fn up(&self) -> Result<(), LogError> {
        if self.closed.is_cancelled() { Err(LogError::Closed) } else { Ok(()) }
    }

    /// Runs what waits for the network, off the threads that must not wait.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        self.up()?;
        let shared = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || ask(&shared));
        tokio::select! {
            () = self.closed.cancelled() => Err(LogError::Closed),
            answer = asked => answer
                .unwrap_or_else(|error| Err(LogError::Unavailable(format!("a question broke off: {error}")))),
        }
    }

    /// All partitions of a topic.
    pub(super) fn all(&self, topic: Topic) -> Vec<TopicPartition> {
        (0..self.config.partitions(topic)).map(|partition| TopicPartition { topic, partition }).collect()
    }

    pub(super) fn there(&self, of: TopicPartition) -> Result<TopicPartition, LogError> {
        let partitions = self.config.partitions(of.topic);
        if of.partition < partitions {
            return Ok(of);
        }
        Err(LogError::NoSuchPartition { topic: of.topic, partition: of.partition, partitions })
    }
}
