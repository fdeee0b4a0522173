//! Where records stand on the target that stood elsewhere on the source.

use std::collections::HashMap;

use schemas::{Position, Topic};

/// An offset that no log ever gives out.
const NEVER: u64 = i64::MAX as u64;

/// Positions on the source, and what became of each.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Position, Position>);

impl Places {
    pub(super) fn put(&mut self, from: Position, to: Position) {
        self.0.insert(from, to);
    }

    pub(super) fn has(&self, from: Position) -> bool {
        self.0.contains_key(&from)
    }

    /// The place on the target. Of what was gone on the source: one where never anything is. As it was it would name the
    /// record of somebody else.
    pub(super) fn of(&self, from: Position) -> Position {
        self.0.get(&from).copied().unwrap_or_else(|| nowhere(from.topic))
    }
}

pub(super) fn nowhere(topic: Topic) -> Position {
    Position { topic, partition: 0, offset: NEVER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_points_nowhere_and_never_at_another() {
        let at = |offset| Position { topic: Topic::Released, partition: 1, offset };
        let mut places = Places::default();
        places.put(at(7), at(2));
        assert_eq!((places.of(at(7)), places.has(at(8))), (at(2), false));
        assert_eq!(places.of(at(8)), Position { topic: Topic::Released, partition: 0, offset: NEVER });
    }
}
