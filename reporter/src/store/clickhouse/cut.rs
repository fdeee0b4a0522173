//! How a batch is cut into inserts: by topic partition and month, with a name for each that a repeated insert has again.

use std::collections::BTreeMap;

use schemas::Timestamp;
use schemas::topics::TopicPartition;

use crate::rows::Change;
use crate::store::{Batch, Covered};

/// Rows of one insert.
pub(super) const MAX_ROWS: usize = 100_000;

/// The changes of one topic partition about messages of one month.
pub(super) struct Cut<'a> {
    pub at: TopicPartition,
    pub month: u32,
    /// Topic, partition, first and last offset, month, and a digest of the events: a log that was restored from a
    /// backup uses its offsets again, for other events.
    pub name: String,
    pub changes: Vec<&'a Change>,
}

pub(super) fn cuts(batch: &Batch) -> Vec<Cut<'_>> {
    let mut parts: BTreeMap<(TopicPartition, u32), Vec<&Change>> = BTreeMap::new();
    for change in &batch.changes {
        let key = (change.position.topic_partition(), month_of(change.message.accepted_at));
        parts.entry(key).or_default().push(change);
    }
    let named = |((at, month), changes): (_, Vec<_>)| {
        let covered = batch.covered.iter().find(|covered| covered.at == at);
        Cut { at, month, name: name(at, month, covered, &changes), changes }
    };
    parts.into_iter().map(named).collect()
}

fn name(at: TopicPartition, month: u32, covered: Option<&Covered>, changes: &[&Change]) -> String {
    let offsets = || changes.iter().map(|change| change.position.offset);
    let first = covered.map_or_else(|| offsets().min().unwrap_or(0), |covered| covered.from);
    let last = covered.map_or_else(|| offsets().max().unwrap_or(0), |covered| covered.next.saturating_sub(1));
    let mut digest = Fnv::new();
    for change in changes {
        digest.add(change.message.id.to_string().as_bytes());
        digest.add(change.event_id.as_bytes());
    }
    format!("{}/{}/{first}-{last}/{month}/{:016x}", at.topic, at.partition, digest.0)
}

/// As `toYYYYMM` of the time, in UTC.
pub(super) fn month_of(at: Timestamp) -> u32 {
    let text = at.rfc3339();
    let digits = text.bytes().filter(u8::is_ascii_digit).take(6);
    digits.fold(0, |month, digit| month * 10 + u32::from(digit - b'0'))
}

/// FNV-1a, which every later version computes alike: names are compared across restarts.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        // The end of a text counts, too.
        for byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_that_of_utc() {
        assert_eq!(month_of(Timestamp(1_795_512_600_123)), 202_611);
        assert_eq!(month_of(Timestamp(951_782_400_000 - 1)), 200_002);
    }

    /// The published value of "foobar", and the end that is added to every text.
    #[test]
    fn the_digest_is_fnv_1a() {
        let mut digest = Fnv::new();
        digest.add(b"foobar");
        assert_eq!(digest.0, 0x8594_4171_f739_67e8_u64.wrapping_mul(0x0100_0000_01b3));
    }
}
