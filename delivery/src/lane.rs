//! The lane of this node in memory: what is still to be delivered and when, folded from the `queue` topic.

use std::collections::{BTreeSet, HashMap};

use schemas::Timestamp;
use schemas::queue::QueueEntry;

use crate::site::Key;

/// What is to be delivered: by key, by time, and by site what waits for room there.
#[derive(Default)]
pub(crate) struct Lane {
    entries: HashMap<Key, Slot>,
    due: BTreeSet<(Timestamp, Key)>,
    waiting: HashMap<String, BTreeSet<(Timestamp, Key)>>,
}

struct Slot {
    entry: QueueEntry,
    state: State,
}

/// What an entry is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Until its next attempt, or on hold.
    Resting,
    /// It is due, and its site has its fill.
    WaitingForSite,
    InFlight,
}

impl Lane {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&QueueEntry> {
        self.entries.get(key).map(|slot| &slot.entry)
    }

    pub(crate) fn is_in_flight(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|slot| slot.state == State::InFlight)
    }

    /// What the entry is doing; one that is not there rests.
    pub(crate) fn state(&self, key: &Key) -> State {
        self.entries.get(key).map_or(State::Resting, |slot| slot.state)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Key, &QueueEntry)> {
        self.entries.iter().map(|(key, slot)| (key, &slot.entry))
    }

    /// Puts an entry in, in place of the one that was there. One that is held only rests.
    pub(crate) fn put(&mut self, entry: QueueEntry, state: State) {
        let key = (entry.message.id, entry.site.clone());
        self.take(&key);
        let place = (entry.next_attempt, key.clone());
        let state = if entry.held && state == State::WaitingForSite { State::Resting } else { state };
        match state {
            State::Resting if entry.held => {}
            State::Resting => drop(self.due.insert(place)),
            State::WaitingForSite => drop(self.waiting.entry(key.1.clone()).or_default().insert(place)),
            State::InFlight => {}
        }
        self.entries.insert(key, Slot { entry, state });
    }

    /// Puts in what is not there; says how many that were.
    pub(crate) fn take_in(&mut self, entries: Vec<QueueEntry>) -> u64 {
        let mut new = 0;
        for entry in entries {
            if self.get(&(entry.message.id, entry.site.clone())).is_none() {
                self.put(entry, State::Resting);
                new += 1;
            }
        }
        new
    }

    pub(crate) fn take(&mut self, key: &Key) -> Option<QueueEntry> {
        let slot = self.entries.remove(key)?;
        let place = (slot.entry.next_attempt, key.clone());
        match slot.state {
            State::Resting => drop(self.due.remove(&place)),
            State::WaitingForSite => self.leave_site(&place),
            State::InFlight => {}
        }
        Some(slot.entry)
    }

    fn leave_site(&mut self, place: &(Timestamp, Key)) {
        if let Some(waiting) = self.waiting.get_mut(&place.1.1) {
            waiting.remove(place);
            if waiting.is_empty() {
                self.waiting.remove(&place.1.1);
            }
        }
    }

    /// When the next entry is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether anything could be begun at `now`.
    pub(crate) fn has_work(&self, now: Timestamp) -> bool {
        !self.waiting.is_empty() || self.next_due().is_some_and(|due| due <= now)
    }

    /// The next entry that is due, now in flight.
    pub(crate) fn start_due(&mut self, now: Timestamp) -> Option<(Key, QueueEntry)> {
        let first = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&first);
        self.start(first.1)
    }

    /// Sites for which something waits.
    pub(crate) fn sites_waited_for(&self) -> impl Iterator<Item = &String> {
        self.waiting.keys()
    }

    /// What has waited longest for this site, now in flight.
    pub(crate) fn start_waiting(&mut self, site: &str) -> Option<(Key, QueueEntry)> {
        let first = self.waiting.get(site)?.first()?.clone();
        self.leave_site(&first);
        self.start(first.1)
    }

    fn start(&mut self, key: Key) -> Option<(Key, QueueEntry)> {
        let slot = self.entries.get_mut(&key)?;
        slot.state = State::InFlight;
        let entry = slot.entry.clone();
        Some((key, entry))
    }

    /// An entry in flight waits for its site.
    pub(crate) fn wait_for_site(&mut self, key: &Key) {
        if let Some(entry) = self.take(key) {
            self.put(entry, State::WaitingForSite);
        }
    }

    /// An entry in flight rests again, until `at`.
    pub(crate) fn postpone(&mut self, key: &Key, at: Timestamp) {
        if let Some(entry) = self.take(key) {
            self.put(QueueEntry { next_attempt: at, ..entry }, State::Resting);
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::MessageId;

    use super::*;

    fn entry(id: MessageId, site: &str, next_attempt: Timestamp) -> QueueEntry {
        let sample = include_str!("../../schemas/golden/queue/entry.json");
        let mut entry: QueueEntry = serde_json::from_str(sample).expect("an entry");
        entry.message.id = id;
        QueueEntry { site: site.into(), next_attempt, held: false, ..entry }
    }

    #[test]
    fn what_waits_for_a_site_goes_in_the_order_of_its_time() {
        let mut lane = Lane::default();
        let keys: Vec<Key> = [30, 10, 20]
            .into_iter()
            .map(|at| {
                let entry = entry(MessageId::new(Timestamp(at)), "x.example", Timestamp(at));
                let key = (entry.message.id, entry.site.clone());
                lane.put(entry, State::WaitingForSite);
                key
            })
            .collect();
        assert_eq!((lane.next_due(), lane.sites_waited_for().count()), (None, 1));
        assert_eq!(lane.start_waiting("x.example").map(|(key, _)| key).as_ref(), Some(&keys[1]));
        assert!(lane.is_in_flight(&keys[1]));
        lane.take(&keys[2]);
        assert_eq!(lane.start_waiting("x.example").map(|(key, _)| key).as_ref(), Some(&keys[0]));
        assert_eq!(lane.start_waiting("x.example").map(|(key, _)| key), None);
        assert_eq!((lane.sites_waited_for().count(), lane.len()), (0, 2));
    }

    #[test]
    fn only_what_is_new_is_taken_in() {
        let mut lane = Lane::default();
        let ours = entry(MessageId::new(Timestamp(1)), "x.example", Timestamp(1));
        let theirs = entry(MessageId::new(Timestamp(2)), "x.example", Timestamp(5));
        lane.put(ours.clone(), State::InFlight);
        assert_eq!(lane.take_in(vec![QueueEntry { tries: 9, ..ours.clone() }, theirs]), 1);
        let key = (ours.message.id, ours.site);
        assert!(lane.is_in_flight(&key) && lane.get(&key).is_some_and(|entry| entry.tries == ours.tries));
        assert_eq!((lane.len(), lane.next_due()), (2, Some(Timestamp(5))));
    }

    #[test]
    fn a_hold_ends_the_wait_and_a_postponed_entry_is_due_again() {
        let mut lane = Lane::default();
        let first = entry(MessageId::new(Timestamp(1)), "x.example", Timestamp(1));
        let key = (first.message.id, first.site.clone());
        lane.put(first.clone(), State::Resting);
        assert_eq!(lane.next_due(), Some(Timestamp(1)));
        assert!(lane.start_due(Timestamp(0)).is_none() && lane.start_due(Timestamp(1)).is_some());
        lane.wait_for_site(&key);
        assert_eq!(lane.state(&key), State::WaitingForSite);
        lane.put(QueueEntry { held: true, ..first }, State::WaitingForSite);
        assert_eq!(lane.state(&key), State::Resting);
        assert!(lane.start_waiting("x.example").is_none() && lane.next_due().is_none());
        lane.postpone(&key, Timestamp(9));
        assert_eq!(lane.next_due(), None, "it is still held");
    }
}
