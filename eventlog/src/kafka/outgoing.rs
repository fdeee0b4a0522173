//! Records on their way out, each with its partition chosen.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::BaseRecord;
use schemas::Position;

use super::config::KafkaConfig;
use super::names::Names;
use super::receipts::Ticket;
use crate::log::partition_of;
use crate::{LogError, NewRecord, Partitioning};

/// A record that passed every check that can be made before it is sent.
pub(super) struct Outgoing {
    record: NewRecord,
    topic: String,
    partition: u32,
}

/// Refuses all of them or none.
pub(super) fn checked(
    config: &KafkaConfig,
    names: &Names,
    records: Vec<NewRecord>,
) -> Result<Vec<Outgoing>, LogError> {
    let place = |record: NewRecord| {
        record.check_size()?;
        let partitions = config.partitions(record.topic);
        let partition = match &record.partitioning {
            Partitioning::By(key) => partition_of(key, partitions),
            Partitioning::Partition(partition) => *partition,
        };
        if partition >= partitions {
            return Err(LogError::NoSuchPartition { topic: record.topic, partition, partitions });
        }
        Ok(Outgoing { topic: names.topic(record.topic), partition, record })
    };
    records.into_iter().map(place).collect()
}

impl Outgoing {
    pub(super) fn bytes(&self) -> usize {
        self.record.key.len() + self.record.value.as_ref().map_or(0, bytes::Bytes::len)
    }

    pub(super) fn position(&self, offset: u64) -> Position {
        Position { topic: self.record.topic, partition: self.partition, offset }
    }

    /// As librdkafka takes it; it makes a copy.
    pub(super) fn as_record(&self, ticket: Box<Ticket>) -> BaseRecord<'_, [u8], [u8], Box<Ticket>> {
        let record = BaseRecord::with_opaque_to(&self.topic, ticket)
            .partition(i32::try_from(self.partition).unwrap_or(i32::MAX))
            .key(self.record.key.as_ref());
        match &self.record.value {
            Some(value) => record.payload(value.as_ref()),
            None => record,
        }
    }
}

/// Whether librdkafka only asks to wait.
pub(super) fn is_full(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))
}

pub(super) fn positions(records: &[Outgoing], offsets: &[u64]) -> Vec<Position> {
    records.iter().zip(offsets).map(|(record, offset)| record.position(*offset)).collect()
}
