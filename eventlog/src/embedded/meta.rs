//! What the log knows about itself: its partition count, offsets that must not be given out again, and the offsets that
//! groups committed. And the layout of `keys`, the index of compacted topics.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use fjall::{Database, Keyspace, PersistMode};
use schemas::topics::TopicPartition;
use schemas::{Timestamp, Topic};

use super::store::{slice, unavailable};
use crate::LogError;

const PARTITIONS: &[u8] = b"partitions";
const FLOOR: u8 = b'f';
const OFFSET: u8 = b'o';
const NEWEST: u8 = b'k';
const TOMBSTONE: u8 = b't';

/// What every group has committed: the offset to go on from.
pub(super) type Committed = HashMap<String, HashMap<TopicPartition, u64>>;

/// The stored partition count; a new log stores `wanted`.
pub(super) fn partitions(db: &Database, meta: &Keyspace, wanted: u32) -> Result<u32, LogError> {
    if let Some(stored) = meta.get(PARTITIONS).map_err(|e| unavailable(&e))? {
        return decode_u32(&stored)
            .ok_or_else(|| LogError::Unavailable("the partition count is damaged".into()));
    }
    let wanted = wanted.max(1);
    meta.insert(PARTITIONS, wanted.to_be_bytes()).map_err(|e| unavailable(&e))?;
    db.persist(PersistMode::SyncAll).map_err(|e| unavailable(&e))?;
    Ok(wanted)
}

/// The offset below which a partition gives out none, even when all its rows are gone.
pub(super) fn floor(meta: &Keyspace, of: TopicPartition) -> Result<u64, LogError> {
    let stored = meta.get(floor_key(of)).map_err(|e| unavailable(&e))?;
    Ok(stored.as_deref().and_then(decode_u64).unwrap_or(0))
}

pub(super) fn floor_key(of: TopicPartition) -> Bytes {
    let mut key = BytesMut::new();
    key.put_u8(FLOOR);
    put_partition(&mut key, of);
    key.freeze()
}

pub(super) fn offset_key(group: &str, of: TopicPartition) -> Bytes {
    let mut key = BytesMut::with_capacity(group.len() + 24);
    key.put_u8(OFFSET);
    key.put_u32(group.len() as u32);
    key.put_slice(group.as_bytes());
    put_partition(&mut key, of);
    key.freeze()
}

/// The offsets of all groups.
pub(super) fn committed(meta: &Keyspace) -> Result<Committed, LogError> {
    let mut committed = Committed::new();
    for guard in meta.prefix([OFFSET]) {
        let (key, value) = guard.into_inner().map_err(|e| unavailable(&e))?;
        let Some((group, of)) = parse_offset_key(&key) else {
            tracing::warn!("an offset of a group or topic that is not known is passed over");
            continue;
        };
        let offset = decode_u64(&value)
            .ok_or_else(|| LogError::Unavailable(format!("an offset of group `{group}` is damaged")))?;
        committed.entry(group).or_default().insert(of, offset);
    }
    Ok(committed)
}

fn parse_offset_key(key: &[u8]) -> Option<(String, TopicPartition)> {
    let length = decode_u32(key.get(1..5)?)? as usize;
    let group = std::str::from_utf8(key.get(5..5 + length)?).ok()?;
    Some((group.to_owned(), parse_partition(key.get(5 + length..)?)?))
}

/// The newest row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) offset: u64,
    pub(super) appended_at: Timestamp,
    pub(super) is_tombstone: bool,
}

pub(super) fn newest_key(of: TopicPartition, key: &[u8]) -> Bytes {
    let mut index = BytesMut::with_capacity(24 + key.len());
    index.put_u8(NEWEST);
    put_partition(&mut index, of);
    index.put_u8(0);
    index.put_slice(key);
    index.freeze()
}

impl Newest {
    pub(super) fn encode(self) -> Bytes {
        let mut value = BytesMut::with_capacity(17);
        value.put_u64(self.offset);
        value.put_i64(self.appended_at.0);
        value.put_u8(u8::from(self.is_tombstone));
        value.freeze()
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        Some(Newest {
            offset: decode_u64(value.get(..8)?)?,
            appended_at: Timestamp(decode_u64(value.get(8..16)?)?.cast_signed()),
            is_tombstone: *value.get(16)? != 0,
        })
    }
}

/// Tombstones by partition and age; the value is the record key.
pub(super) fn tombstone_key(of: TopicPartition, at: Timestamp, offset: u64) -> Bytes {
    let mut key = tombstone_prefix(of);
    key.put_i64(at.0);
    key.put_u64(offset);
    key.freeze()
}

pub(super) fn tombstone_prefix(of: TopicPartition) -> BytesMut {
    let mut key = BytesMut::with_capacity(48);
    key.put_u8(TOMBSTONE);
    put_partition(&mut key, of);
    key.put_u8(0);
    key
}

/// When and at which offset the tombstone of an entry was written.
pub(super) fn parse_tombstone_key(key: &[u8]) -> Option<(Timestamp, u64)> {
    let tail = key.get(key.len().checked_sub(16)?..)?;
    Some((Timestamp(decode_u64(&tail[..8])?.cast_signed()), decode_u64(&tail[8..])?))
}

/// A partition in a key: its number, then the topic's name, which no other name continues into what follows (a zero
/// byte or the end).
fn put_partition(key: &mut BytesMut, of: TopicPartition) {
    key.put_u32(of.partition);
    key.put_slice(of.topic.name().as_bytes());
}

fn parse_partition(key: &[u8]) -> Option<TopicPartition> {
    let partition = decode_u32(key.get(..4)?)?;
    let name = key.get(4..)?;
    let topic = Topic::ALL.into_iter().find(|topic| topic.name().as_bytes() == name)?;
    Some(TopicPartition { topic, partition })
}

pub(super) fn put_u64(value: u64) -> fjall::Slice {
    slice(Bytes::copy_from_slice(&value.to_be_bytes()))
}

fn decode_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn decode_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: TopicPartition = TopicPartition { topic: Topic::Senders, partition: 3 };

    #[test]
    fn keys_come_back_as_they_went_in() {
        assert_eq!(parse_offset_key(&offset_key("lane-n1", OF)), Some(("lane-n1".into(), OF)));
        let key = tombstone_key(OF, Timestamp(12), 9);
        assert!(key.starts_with(&tombstone_prefix(OF)));
        assert_eq!(parse_tombstone_key(&key), Some((Timestamp(12), 9)));
        let newest = Newest { offset: 7, appended_at: Timestamp(-1), is_tombstone: true };
        assert_eq!(Newest::decode(&newest.encode()), Some(newest));
        assert_eq!(Newest::decode(b"short"), None);
        assert_eq!(parse_offset_key(b"o"), None);
    }
}
