//! Records as they come from a broker.

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use schemas::{Position, Timestamp};

use super::names::Names;
use super::offsets::place;
use crate::Record;

/// The record, when it is of a topic of ours.
pub(super) fn record(names: &Names, message: &BorrowedMessage<'_>) -> Option<Record> {
    let of = place(names.topic_of(message.topic())?, message.partition());
    let offset = u64::try_from(message.offset()).ok()?;
    Some(Record {
        position: Position { topic: of.topic, partition: of.partition, offset },
        key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
        value: message.payload().map(Bytes::copy_from_slice),
        appended_at: Timestamp(message.timestamp().to_millis().unwrap_or(0)),
    })
}

pub(super) fn bytes(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
}
