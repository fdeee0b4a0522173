//! What was met within the last day, each once.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bits;

/// So many are told apart; more are not looked for.
pub const MAX_LATELY: usize = 128;
const HOURS: i64 = 24;

/// Hashes that were met within the last day (24 hours, and at most one more), each with the hour in which it was met last.
/// In JSON the newest hour, and three bytes for each: the hash, and how many hours before that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    newest: i64,
    met: Vec<(u16, u8)>,
}

impl Lately {
    /// Meets hashes in an hour; one before the newest counts as that.
    pub fn meet(&mut self, hour: i64, hashes: &[u16]) {
        if hashes.is_empty() {
            return;
        }
        let hour = if self.met.is_empty() { hour } else { hour.max(self.newest) };
        self.met = self.at(hour).map(|(hash, age)| (hash, age as u8)).collect();
        self.newest = hour;
        for hash in hashes {
            if let Some((_, age)) = self.met.iter_mut().find(|(met, _)| met == hash) {
                *age = 0;
            } else if self.met.len() < MAX_LATELY {
                self.met.push((*hash, 0));
            }
        }
    }

    /// How many there are at `hour`, these ones included.
    #[must_use]
    pub fn with(&self, hour: i64, hashes: &[u16]) -> usize {
        let old = self.at(hour).count();
        let is_new = |hash: &&u16| !self.at(hour).any(|(met, _)| met == **hash);
        (old + hashes.iter().filter(is_new).count()).min(MAX_LATELY)
    }

    /// How many were met last in `first` or later.
    #[must_use]
    pub fn since(&self, first: i64) -> usize {
        let is_later = |(_, age): &&(u16, u8)| self.newest.saturating_sub(i64::from(*age)) >= first;
        self.met.iter().filter(is_later).count()
    }

    /// Those of the day before `hour`, with their age in hours.
    fn at(&self, hour: i64) -> impl Iterator<Item = (u16, i64)> {
        let later = hour.max(self.newest).saturating_sub(self.newest);
        self.met
            .iter()
            .map(move |(hash, age)| (*hash, later.saturating_add(i64::from(*age))))
            .filter(|(_, age)| *age <= HOURS)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.met.is_empty()
    }
}

impl Serialize for Lately {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let byte = |(hash, age): &(u16, u8)| {
            let [low, high] = hash.to_le_bytes();
            [low, high, *age]
        };
        let bytes: Vec<u8> = self.met.iter().flat_map(byte).collect();
        (self.newest, bits::encode(&bytes)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lately {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written(i64, #[serde(deserialize_with = "bits::decode")] Vec<u8>);
        let Written(newest, bytes) = Written::deserialize(deserializer)?;
        let (triples, rest) = bytes.as_chunks::<3>();
        if !rest.is_empty() || triples.len() > MAX_LATELY {
            return Err(de::Error::custom("no list of hashes with their hour"));
        }
        let met = triples.iter().map(|[low, high, age]| (u16::from_le_bytes([*low, *high]), *age)).collect();
        Ok(Lately { newest, met })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_finds_no_room_is_not_told_apart() {
        let mut lately = Lately::default();
        let all: Vec<u16> = (0..500).collect();
        lately.meet(5, &all);
        assert_eq!((lately.with(5, &[]), lately.with(5, &all), lately.met.len()), (128, 128, 128));
        lately.meet(30, &[7]);
        assert_eq!(lately.with(30, &[7, 8]), 2);
        lately.meet(i64::MAX, &[1]);
        assert_eq!((lately.with(0, &[]), lately.since(i64::MAX)), (1, 1));
    }

    proptest! {
        /// Against a list of everything that was ever met.
        #[test]
        fn a_day_is_told_exactly(events in proptest::collection::vec((-6i64..16, proptest::collection::vec(0u16..40, 0..4)), 1..60)) {
            // none met is no change
            let events = events.into_iter().filter(|(_, hashes)| !hashes.is_empty());
            let (mut lately, mut model) = (Lately::default(), BTreeMap::new());
            let (mut hour, mut newest) = (490_000, i64::MIN);
            for (change, hashes) in events {
                hour += change;
                newest = newest.max(hour);
                for hash in &hashes {
                    model.insert(*hash, newest);
                }
                lately.meet(hour, &hashes);
                for now in [newest - 2, newest, newest + 7, newest + 24, newest + 25] {
                    let now_or_newest = now.max(newest);
                    let expect = model.values().filter(|met| now_or_newest - **met <= 24).count();
                    prop_assert_eq!(lately.with(now, &[]), expect);
                    let extra = usize::from(model.get(&3).is_none_or(|met| now_or_newest - met > 24));
                    prop_assert_eq!(lately.with(now, &[3]), expect + extra);
                }
                let expect = model.values().filter(|met| **met >= newest - 9).count();
                prop_assert_eq!(lately.since(newest - 9), expect);
                let text = serde_json::to_string(&lately).unwrap();
                prop_assert_eq!(serde_json::from_str::<Lately>(&text).unwrap(), lately.clone());
            }
        }
    }
}
