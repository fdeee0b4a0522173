//! How a record lies in a keyspace: under its offset (8 bytes, big-endian), as
//! `appended_at (8) | flags (1) | key length (4) | key | value`.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::{Position, Timestamp};

use crate::{LogError, Record};

const HEAD_BYTES: usize = 13;
const TOMBSTONE: u8 = 1;

/// The stored form; key and value of `Record`s are slices of it, so that a record is copied once.
pub(super) fn encode(key: &[u8], value: Option<&[u8]>, appended_at: Timestamp) -> Bytes {
    let mut stored = BytesMut::with_capacity(HEAD_BYTES + key.len() + value.map_or(0, <[u8]>::len));
    stored.put_i64(appended_at.0);
    stored.put_u8(if value.is_none() { TOMBSTONE } else { 0 });
    stored.put_u32(key.len() as u32); // at most MAX_KEY_BYTES
    stored.put_slice(key);
    stored.put_slice(value.unwrap_or_default());
    stored.freeze()
}

pub(super) fn decode(position: Position, stored: &Bytes) -> Result<Record, LogError> {
    let damaged = || LogError::Damaged { position, detail: "the stored record is cut short".into() };
    let head = stored.get(..HEAD_BYTES).ok_or_else(damaged)?;
    let number =
        |range: std::ops::Range<usize>| head[range].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let value_at = HEAD_BYTES + number(9..13) as usize;
    if stored.len() < value_at {
        return Err(damaged());
    }
    Ok(Record {
        position,
        key: stored.slice(HEAD_BYTES..value_at),
        value: (head[8] & TOMBSTONE == 0).then(|| stored.slice(value_at..)),
        appended_at: Timestamp(number(0..8).cast_signed()),
    })
}

#[cfg(test)]
mod tests {
    use schemas::Topic;

    use super::*;

    #[test]
    fn a_record_comes_back() {
        let position = Position { topic: Topic::Queue, partition: 1, offset: 7 };
        let record = decode(position, &encode(b"k\0", Some(b"v"), Timestamp(-5))).unwrap();
        assert_eq!(
            (&record.key[..], record.value.as_deref(), record.appended_at),
            (&b"k\0"[..], Some(&b"v"[..]), Timestamp(-5))
        );
        assert_eq!(decode(position, &encode(b"k", None, Timestamp(1))).unwrap().value, None);
        assert!(matches!(decode(position, &Bytes::from_static(b"short")), Err(LogError::Damaged { .. })));
    }
}
