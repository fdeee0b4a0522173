//! How a record is laid out in a keyspace.
//!
//! Everything but the value stands in the row's key, so that a value goes in and out without a copy: offset (8 bytes,
//! big-endian, so that rows sort by it), time of appending (8 bytes), flags (1 byte), record key.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp};

use crate::{LogError, Record};

const HEADER_BYTES: usize = 17;
const TOMBSTONE: u8 = 1;

/// The key of a row.
pub(super) fn encode(offset: u64, appended_at: Timestamp, is_tombstone: bool, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(HEADER_BYTES + key.len());
    row.put_u64(offset);
    row.put_i64(appended_at.0);
    row.put_u8(if is_tombstone { TOMBSTONE } else { 0 });
    row.put_slice(key);
    row.freeze()
}

/// The record key in the key of a row.
pub(super) fn record_key(row: &Bytes) -> Bytes {
    row.slice(HEADER_BYTES..)
}

/// The start of the range of rows from `offset` on.
pub(super) fn from_offset(offset: u64) -> [u8; 8] {
    offset.to_be_bytes()
}

/// What a row's key says.
pub(super) struct RowKey {
    pub(super) offset: u64,
    pub(super) appended_at: Timestamp,
    pub(super) is_tombstone: bool,
}

pub(super) fn decode_key(row: &[u8]) -> Option<RowKey> {
    let offset = u64::from_be_bytes(row.get(..8)?.try_into().ok()?);
    let appended_at = Timestamp(i64::from_be_bytes(row.get(8..16)?.try_into().ok()?));
    let flags = *row.get(16)?;
    Some(RowKey { offset, appended_at, is_tombstone: flags & TOMBSTONE != 0 })
}

/// The record of a row; `asked` is for the error only.
pub(super) fn decode(of: TopicPartition, asked: u64, row: &Bytes, value: Bytes) -> Result<Record, LogError> {
    let Some(head) = decode_key(row) else {
        let position = Position { topic: of.topic, partition: of.partition, offset: asked };
        return Err(LogError::Damaged { position, detail: "a row's key is too short".into() });
    };
    Ok(Record {
        position: Position { topic: of.topic, partition: of.partition, offset: head.offset },
        key: record_key(row),
        value: (!head.is_tombstone).then_some(value),
        appended_at: head.appended_at,
    })
}

#[cfg(test)]
mod tests {
    use schemas::Topic;

    use super::*;

    #[test]
    fn a_row_comes_back_as_it_went_in() {
        let of = TopicPartition { topic: Topic::Queue, partition: 2 };
        let row = encode(77, Timestamp(-5), false, b"key");
        let record = decode(of, 0, &row, Bytes::from_static(b"value")).unwrap();
        assert_eq!(record.position.offset, 77);
        assert_eq!(record.appended_at, Timestamp(-5));
        assert_eq!(record.key, "key");
        assert_eq!(record.value.unwrap(), "value");

        let row = encode(u64::MAX, Timestamp(i64::MAX), true, b"");
        let record = decode(of, 0, &row, Bytes::new()).unwrap();
        assert!(record.value.is_none() && record.key.is_empty());
        assert!(decode(of, 9, &Bytes::from_static(b"short"), Bytes::new()).is_err());
    }

    #[test]
    fn rows_sort_by_offset() {
        assert!(encode(255, Timestamp(9), false, b"z") < encode(256, Timestamp(1), false, b"a"));
        assert!(from_offset(256).as_slice() < &encode(256, Timestamp(0), false, b"")[..]);
    }
}
