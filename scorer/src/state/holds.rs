//! Messages that wait for a limit or for an engine, by user and age.

use std::collections::{BTreeMap, HashMap};

use schemas::senders::HoldRow;
use schemas::{MessageId, UserId};

/// The holds of one partition. Message ids sort by time: the first of a user has waited longest.
#[derive(Debug, Default)]
pub struct Holds {
    by_user: HashMap<UserId, BTreeMap<MessageId, HoldRow>>,
}

impl Holds {
    pub fn put(&mut self, row: HoldRow) {
        self.by_user.entry(row.message.user.clone()).or_default().insert(row.message.id, row);
    }

    pub fn remove(&mut self, user: &UserId, id: MessageId) -> Option<HoldRow> {
        let rows = self.by_user.get_mut(user)?;
        let row = rows.remove(&id);
        if rows.is_empty() {
            self.by_user.remove(user);
        }
        row
    }

    #[must_use]
    pub fn get(&self, user: &UserId, id: MessageId) -> Option<&HoldRow> {
        self.by_user.get(user)?.get(&id)
    }

    /// How many messages of a user wait.
    #[must_use]
    pub fn len_of(&self, user: &UserId) -> usize {
        self.by_user.get(user).map_or(0, BTreeMap::len)
    }

    /// What of a user waits for a limit.
    pub fn over_limit_of(&self, user: &UserId) -> impl Iterator<Item = &HoldRow> {
        self.by_user.get(user).into_iter().flat_map(BTreeMap::values).filter(|row| !row.unchecked)
    }

    /// Everything that waits for an engine.
    pub fn unchecked(&self) -> impl Iterator<Item = &HoldRow> {
        self.by_user.values().flat_map(BTreeMap::values).filter(|row| row.unchecked)
    }

    /// Each user with what waits, oldest first.
    pub fn by_user(&self) -> impl Iterator<Item = (&UserId, impl Iterator<Item = &HoldRow>)> {
        self.by_user.iter().map(|(user, rows)| (user, rows.values()))
    }
}
