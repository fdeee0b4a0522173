//! How many recipients the From domains of a user have at large receivers.

use serde::{Deserialize, Serialize};

/// Pairs of a From domain and a receiver that are counted for one user.
pub const MAX_BULK_PAIRS: usize = 40;

/// Recipients of the newest day (UTC) with such mail, and of the day before. In JSON each pair is its hash and the two counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulk {
    day: i64,
    pairs: Vec<Pair>,
}

/// Hash of a From domain and a receiver, recipients of the newest day, and of the day before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pair(u32, u32, u32);

impl Bulk {
    /// Counts recipients; those of a day before the newest count in that: days never go backwards. When there is no room, the
    /// pair with the fewest leaves.
    pub fn add(&mut self, day: i64, pair: u32, recipients: u32) {
        self.begin(day);
        let place = self.pairs.iter().position(|Pair(known, ..)| *known == pair).or_else(|| {
            if self.pairs.len() < MAX_BULK_PAIRS {
                self.pairs.push(Pair(pair, 0, 0));
                return Some(self.pairs.len() - 1);
            }
            let few = |Pair(_, today, yesterday): &Pair| today.saturating_add(*yesterday);
            let (place, fewest) = self.pairs.iter_mut().enumerate().min_by_key(|(_, known)| few(known))?;
            *fewest = Pair(pair, 0, 0);
            Some(place)
        });
        if let Some(Pair(_, today, _)) = place.and_then(|place| self.pairs.get_mut(place)) {
            *today = today.saturating_add(recipients);
        }
    }

    fn begin(&mut self, day: i64) {
        if day <= self.day {
            return;
        }
        let is_next = day == self.day.saturating_add(1);
        self.pairs.retain_mut(|Pair(_, today, yesterday)| {
            *yesterday = if is_next { *today } else { 0 };
            *today = 0;
            *yesterday > 0
        });
        self.day = day;
    }

    /// Recipients of a pair on `day`, and on the day before.
    #[must_use]
    pub fn count(&self, day: i64, pair: u32) -> (u32, u32) {
        let known = self.pairs.iter().find(|Pair(known, ..)| *known == pair);
        let Some(Pair(_, today, yesterday)) = known else { return (0, 0) };
        match day.saturating_sub(self.day) {
            ..=0 => (*today, *yesterday),
            1 => (0, *today),
            _ => (0, 0),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_and_yesterday_are_counted_and_never_backwards() {
        let mut bulk = Bulk::default();
        bulk.add(100, 7, 3);
        bulk.add(100, 7, 2);
        bulk.add(100, 8, 1);
        assert_eq!((bulk.count(100, 7), bulk.count(100, 9)), ((5, 0), (0, 0)));
        assert_eq!((bulk.count(101, 7), bulk.count(102, 7)), ((0, 5), (0, 0)));
        bulk.add(101, 7, 10);
        bulk.add(99, 7, 1);
        assert_eq!((bulk.count(101, 7), bulk.count(99, 7)), ((11, 5), (11, 5)), "what is late counts today");
        assert_eq!(bulk.count(101, 8), (0, 1));
        bulk.add(102, 7, 1);
        assert_eq!((bulk.count(102, 7), bulk.pairs.len()), ((1, 11), 1), "what is unused leaves");
        bulk.add(104, 8, u32::MAX);
        bulk.add(104, 8, 1);
        assert_eq!((bulk.count(104, 7), bulk.count(104, 8)), ((0, 0), (u32::MAX, 0)));
    }

    #[test]
    fn the_fewest_make_room_and_the_row_stays_small() {
        let mut bulk = Bulk::default();
        bulk.add(20_000, 1, 60_000);
        bulk.add(20_001, 2, 60_000);
        for other in 0..1000u32 {
            bulk.add(20_001, u32::MAX - other, 10_000);
        }
        assert_eq!((bulk.count(20_001, 1), bulk.count(20_001, 2)), ((0, 60_000), (60_000, 0)));
        assert_eq!(bulk.count(20_001, u32::MAX - 999), (10_000, 0), "who is new has a place");
        let written = serde_json::to_string(&bulk).unwrap();
        assert!(written.len() <= 1024, "{}", written.len());
        assert_eq!(serde_json::from_str::<Bulk>(&written).unwrap(), bulk);
    }
}
