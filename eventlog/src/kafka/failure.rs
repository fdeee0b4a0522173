//! What an error of librdkafka means for the caller.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::LogError;

pub(super) fn unavailable(doing: &str, error: &KafkaError) -> LogError {
    LogError::Unavailable(format!("{doing}: {error}"))
}

/// Whether it comes from a partition whose leader changes.
pub(super) fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::BrokerTransportFailure
        )
    )
}

/// Whether it says that another member has the slot or the partitions.
pub(super) fn says_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
    )
}

pub(super) fn fenced(group: &str, detail: impl Into<String>) -> LogError {
    LogError::Fenced { group: group.to_owned(), detail: detail.into() }
}
