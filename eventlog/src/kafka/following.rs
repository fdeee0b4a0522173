//! Following partitions without a group: what `table` and `tail` have in common.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::topics::TopicPartition;
use tokio::sync::Notify;

use super::failure::unavailable;
use super::incoming;
use super::notices::Notices;
use super::offsets::{self, Offsets, at};
use super::shared::Shared;
use crate::{LogError, Record};

/// As for a member: an entry that was no record hides those behind it from the callback.
const LOOK: Duration = Duration::from_millis(50);
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// What a follower found, in the order in which it stands there.
pub(super) enum Found {
    Record(Record),
    /// The end of what can be read of a partition, as it was some time after the follower began.
    End(u32),
}

pub(super) struct Follower {
    shared: Arc<Shared>,
    native: Option<BaseConsumer<Notices>>,
    arrived: Arc<Notify>,
    /// Where each partition is begun: a reset may go back further.
    from: Offsets,
}

impl Follower {
    pub(super) fn begin(shared: Arc<Shared>, from: Offsets) -> Result<Self, LogError> {
        let mut native: BaseConsumer<Notices> = shared
            .clients
            .follower()
            .create_with_context(Notices::default())
            .map_err(|error| unavailable("a reader cannot be made", &error))?;
        let arrived = Arc::new(Notify::new());
        let wake = Arc::clone(&arrived);
        native.set_nonempty_callback(move || wake.notify_one());
        let of: Vec<TopicPartition> = from.keys().copied().collect();
        let list = offsets::list(&shared.names, &of, |of| at(from[of]))?;
        native.assign(&list).map_err(|error| unavailable("partitions cannot be followed", &error))?;
        Ok(Follower { shared, native: Some(native), arrived, from })
    }

    /// What is there, at least one entry; waits for it. Safe to cancel: nothing is awaited between taking and giving.
    pub(super) async fn next(&mut self, max: usize) -> Result<Vec<Found>, LogError> {
        loop {
            self.shared.up()?;
            let found = self.take(max)?;
            if !found.is_empty() {
                return Ok(found);
            }
            tokio::select! {
                () = self.shared.closed.cancelled() => {}
                _ = tokio::time::timeout(LOOK, self.arrived.notified()) => {}
            }
        }
    }

    fn take(&self, max: usize) -> Result<Vec<Found>, LogError> {
        let Some(native) = &self.native else { return Err(LogError::Closed) };
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut silent = 0;
        while silent < 2 && found.len() < max && bytes < MAX_READ_BYTES {
            match native.poll(Duration::ZERO) {
                None => silent += 1,
                Some(Ok(message)) => {
                    silent = 0;
                    let record = incoming::record(&self.shared.names, &message);
                    if let Some(record) = record.filter(|record| self.wanted(record)) {
                        bytes += incoming::bytes(&record);
                        found.push(Found::Record(record));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    found.push(Found::End(u32::try_from(partition).unwrap_or(0)));
                }
                Some(Err(error)) if is_lasting(&error) && found.is_empty() => {
                    return Err(unavailable("partitions cannot be followed", &error));
                }
                // librdkafka goes on by itself.
                Some(Err(error)) => tracing::debug!(%error, "the reader goes on after an error"),
            }
        }
        Ok(found)
    }

    fn wanted(&self, record: &Record) -> bool {
        self.from.get(&record.position.topic_partition()).is_some_and(|from| record.position.offset >= *from)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(native) = self.native.take() {
            self.shared.departures.start("", move || drop(native));
        }
    }
}

fn is_lasting(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
        ) | KafkaError::MessageConsumptionFatal(_)
    )
}
