//! Which messages are in quarantine and where they stand; what else there is to say of one stands in its record.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::{MessageId, Position, Timestamp, Topic, UserId};

/// As long as `quarantined` keeps its records.
pub const KEPT: Duration = Duration::from_secs(28 * 24 * 3600);

/// An index of the `quarantine` rows of one partition.
#[derive(Debug, Default)]
pub struct Quarantined {
    entries: HashMap<MessageId, Entry>,
    by_age: BTreeSet<(Timestamp, MessageId)>,
}

/// What is kept of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub user: UserId,
    pub state: QuarantineState,
    /// Who brought it to this state.
    pub by: String,
    pub since: Timestamp,
    /// In `quarantined`; in `accepted` until its place in `quarantined` is known.
    pub position: Position,
}

impl Quarantined {
    /// Takes a row, as it is read or written.
    pub fn put(&mut self, row: &QuarantineRow) {
        let entry = Entry {
            user: row.message.user.clone(),
            state: row.state,
            by: row.by.clone(),
            since: row.since,
            position: row.position,
        };
        self.remove(row.message.id);
        self.by_age.insert((entry.since, row.message.id));
        self.entries.insert(row.message.id, entry);
    }

    pub fn remove(&mut self, id: MessageId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.by_age.remove(&(entry.since, id));
        }
    }

    #[must_use]
    pub fn get(&self, id: MessageId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Messages whose place in `quarantined` is not known: a crash came between two commits.
    pub fn unplaced(&self) -> impl Iterator<Item = (MessageId, &Entry)> {
        self.entries
            .iter()
            .filter(|(_, entry)| {
                entry.position.topic == Topic::Accepted && entry.state == QuarantineState::In
            })
            .map(|(id, entry)| (*id, entry))
    }

    /// The offset after the last one known in `quarantined`. Places become known in the order of the records, so those
    /// that are missing stand behind it.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        let placed = self.entries.values().filter(|entry| entry.position.topic == Topic::Quarantined);
        placed.map(|entry| entry.position.offset + 1).max().unwrap_or(0)
    }

    /// Up to `max` rows, oldest first, whose record is no longer kept at `now`.
    #[must_use]
    pub fn expired(&self, now: Timestamp, max: usize) -> Vec<(UserId, MessageId)> {
        let limit = now.minus(KEPT);
        self.by_age
            .iter()
            .take_while(|(since, _)| *since < limit)
            .take(max)
            .filter_map(|(_, id)| self.entries.get(id).map(|entry| (entry.user.clone(), *id)))
            .collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
