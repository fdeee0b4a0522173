//! How many different recipients a user wrote to within a sliding day, in a row of bounded size.
//!
//! Each recipient stands as a hash of 32 bits in the hour in which it was last written to. Up to [`MAX_HASHES`] the number is
//! exact. With more, an hour keeps only the hashes that end in some zero bits (its level): a sample of one in 2^level, drawn
//! by the recipient alone, so that one who is written to again is in it again or never was. Counted is what passes the highest
//! level of the day, times 2^level: its standard error is at most about 3 % of the largest number within the day and the one
//! before it. Once the busy hours have left the window, the number is exact again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Mailbox, Timestamp};

/// Hashes kept; as base64 less than 11 KiB.
const MAX_HASHES: usize = 2048;
/// Hours of a day; the window is so long and at most an hour longer.
const HOURS: i64 = 24;
const HOUR_MS: i64 = 3_600_000;

/// Recipients by their hashes, each once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hashes(Vec<u32>);

impl Hashes {
    #[must_use]
    pub fn of<'a>(recipients: impl Iterator<Item = &'a Mailbox>) -> Self {
        recipients.map(hash).collect()
    }

    /// `false` when it was there.
    pub fn insert(&mut self, hash: u32) -> bool {
        let at = self.0.binary_search(&hash);
        if let Err(at) = at {
            self.0.insert(at, hash);
        }
        at.is_err()
    }

    fn remove(&mut self, hash: u32) {
        if let Ok(at) = self.0.binary_search(&hash) {
            self.0.remove(at);
        }
    }

    #[must_use]
    pub fn contains(&self, hash: u32) -> bool {
        self.0.binary_search(&hash).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u32> for Hashes {
    fn from_iter<T: IntoIterator<Item = u32>>(hashes: T) -> Self {
        let mut hashes: Vec<u32> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        Hashes(hashes)
    }
}

impl From<Hashes> for String {
    fn from(hashes: Hashes) -> Self {
        let bytes: Vec<u8> = hashes.iter().flat_map(u32::to_le_bytes).collect();
        STANDARD.encode(bytes)
    }
}

impl TryFrom<String> for Hashes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (hashes, _) = STANDARD.decode(text).map(|bytes| {
            let (hashes, rest) = bytes.as_chunks::<4>();
            (hashes.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(), rest.len())
        })?;
        Ok(hashes)
    }
}

/// The same for every spelling of an address in upper and lower case.
#[must_use]
pub fn hash(recipient: &Mailbox) -> u32 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(recipient.to_string().to_lowercase());
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The recipients of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distinct(Vec<Hour>);

/// Those last written to in one hour (counted from 1970), as far as they pass the level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hour(i64, u32, Hashes);

fn passes(hash: u32, level: u32) -> bool {
    hash.trailing_zeros() >= level
}

impl Distinct {
    /// Counts the recipients of a message. A time before the newest hour counts in that: windows never slide backwards.
    pub fn add(&mut self, at: Timestamp, hashes: &Hashes) {
        let first = self.first(at);
        let newest = first + HOURS;
        self.0.retain(|hour| hour.0 >= first);
        if self.0.last().is_none_or(|hour| hour.0 < newest) {
            self.0.push(Hour(newest, 0, Hashes::default()));
        }
        let Some((last, earlier)) = self.0.split_last_mut() else { return };
        for hash in hashes.iter().filter(|hash| passes(*hash, last.1)) {
            if last.2.insert(hash) {
                earlier.iter_mut().for_each(|hour| hour.2.remove(hash));
            }
        }
        while self.0.iter().map(|hour| hour.2.len()).sum::<usize>() > MAX_HASHES {
            self.thin_out();
        }
        self.0.retain(|hour| hour.0 == newest || hour.1 > 0 || !hour.2.is_empty());
    }

    /// Halves the hour that has most of its recipients, the oldest of several.
    fn thin_out(&mut self) {
        let Some(hour) = self.0.iter_mut().min_by_key(|hour| hour.1) else { return };
        hour.1 += 1;
        hour.2.0.retain(|hash| passes(*hash, hour.1));
    }

    /// The first hour of the window.
    fn first(&self, now: Timestamp) -> i64 {
        let newest = self.0.last().map_or(i64::MIN, |hour| hour.0);
        now.0.div_euclid(HOUR_MS).max(newest) - HOURS
    }

    fn within(&self, now: Timestamp) -> impl Iterator<Item = &Hour> {
        let first = self.first(now);
        self.0.iter().filter(move |hour| hour.0 >= first)
    }

    /// Different recipients within the day before `now`.
    #[must_use]
    pub fn count(&self, now: Timestamp) -> u64 {
        let level = self.within(now).map(|hour| hour.1).max().unwrap_or(0);
        let sample = self.within(now).flat_map(|hour| hour.2.iter()).filter(|hash| passes(*hash, level));
        (sample.count() as u64) << level
    }

    /// Whether a recipient is known to have been written to within the day before `now`. Where only a sample is kept, most
    /// are not.
    #[must_use]
    pub fn knows(&self, now: Timestamp, hash: u32) -> bool {
        self.within(now).any(|hour| hour.2.contains(hash))
    }

    /// How many of these are not known.
    #[must_use]
    pub fn new_among(&self, now: Timestamp, hashes: &Hashes) -> u64 {
        hashes.iter().filter(|hash| !self.knows(now, *hash)).count() as u64
    }

    /// When `limit` has room for so many new ones, if nothing is sent meanwhile; at the latest when nothing is left.
    #[must_use]
    pub fn room_at(&self, now: Timestamp, new: u64, limit: u64) -> Timestamp {
        let mut at = now;
        for hour in self.within(now) {
            if self.count(at) + new <= limit {
                break;
            }
            at = Timestamp((hour.0 + HOURS + 1) * HOUR_MS);
        }
        at
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::limits::tests::Random;

    const START: i64 = 1_795_512_600_000;
    const DAY_MS: i64 = HOURS * HOUR_MS;

    /// Recipients who were last written to within a time before `now`.
    fn model(last: &HashMap<u32, i64>, now: i64, within: i64) -> u64 {
        last.values().filter(|at| **at > now - within).count() as u64
    }

    fn spread(n: u64) -> u32 {
        // Recipients are numbered; their hashes are as those of addresses.
        hash(&Mailbox::parse(&format!("r{n}@b.example")).unwrap())
    }

    #[test]
    fn few_recipients_are_counted_as_a_list_counts_them() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let (mut distinct, mut last, mut now) = (Distinct::default(), HashMap::new(), START);
            let people = 1 + random.below(600);
            for _ in 0..300 {
                now += random.below(HOUR_MS as u64) as i64;
                let counted = distinct.count(Timestamp(now));
                let (least, most) = (model(&last, now, DAY_MS), model(&last, now, DAY_MS + HOUR_MS));
                assert!((least..=most).contains(&counted), "seed {seed}: {least} <= {counted} <= {most}");
                let hashes: Hashes = (0..random.below(8)).map(|_| spread(random.below(people))).collect();
                let new =
                    hashes.iter().filter(|h| last.get(h).is_none_or(|at| *at <= now - DAY_MS - HOUR_MS));
                assert!(distinct.new_among(Timestamp(now), &hashes) >= new.count() as u64);
                distinct.add(Timestamp(now), &hashes);
                last.extend(hashes.iter().map(|hash| (hash, now)));
                assert_eq!(distinct.new_among(Timestamp(now), &hashes), 0);
            }
        }
    }

    #[test]
    fn many_are_estimated_within_the_error_that_is_promised() {
        let mut worst: f64 = 0.0;
        for seed in 0..12 {
            let mut random = Random(seed);
            let (mut distinct, mut last, mut now) = (Distinct::default(), HashMap::new(), START);
            let mut peaks = Vec::new();
            // Busy days and quiet ones take turns.
            for hour in 0..96 {
                now += HOUR_MS;
                let busy = (hour / 30 + seed) % 2 == 0;
                let (messages, people) = if busy { (1500, 40_000) } else { (20, 300) };
                for _ in 0..random.below(messages) {
                    let hash = spread(random.below(people));
                    distinct.add(Timestamp(now), &std::iter::once(hash).collect());
                    last.insert(hash, now);
                }
                let truth = model(&last, now, DAY_MS + HOUR_MS);
                peaks.push(truth);
                let peak = *peaks.iter().rev().take(50).max().unwrap();
                let error = distinct.count(Timestamp(now)).abs_diff(truth) as f64 / peak.max(1) as f64;
                worst = worst.max(error);
                let row = serde_json::to_vec(&distinct).unwrap();
                assert!(row.len() < 13 * 1024, "{} bytes", row.len());
                assert_eq!(serde_json::from_slice::<Distinct>(&row).unwrap(), distinct);
            }
            // Two quiet days later all is exact again.
            for _ in 0..26 {
                now += HOUR_MS;
                let hash = spread(random.below(300));
                distinct.add(Timestamp(now), &std::iter::once(hash).collect());
                last.insert(hash, now);
            }
            assert_eq!(distinct.count(Timestamp(now)), model(&last, now, DAY_MS + HOUR_MS));
        }
        assert!(worst < 4.0 * 0.032, "four standard errors: {worst}");
        assert!(worst > 0.0);
    }

    #[test]
    fn windows_never_slide_backwards_and_addresses_are_the_same_in_any_case() {
        let mut distinct = Distinct::default();
        let of = |text: &str| Hashes::of([Mailbox::parse(text).unwrap()].iter());
        assert_eq!(of("Anna@B.example"), of("anna@b.EXAMPLE"));
        distinct.add(Timestamp(START), &of("a@b.example"));
        distinct.add(Timestamp(START - 90 * DAY_MS), &of("b@b.example"));
        assert_eq!(distinct.count(Timestamp(START)), 2);
        assert_eq!(distinct.count(Timestamp(START - 90 * DAY_MS)), 2);
        let free = distinct.room_at(Timestamp(START), 1, 2);
        assert_eq!(distinct.count(Timestamp(free.0 - 1)), 2);
        assert_eq!(distinct.count(free), 0);
    }
}
