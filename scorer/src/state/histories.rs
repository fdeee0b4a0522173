//! How the users and identities of one partition behaved: what `behaviour` compares a message with. An identity has a history
//! from its second message on, so that one that is made up for a single message takes no room.

use std::collections::HashMap;

use schemas::history::{
    Arrivals, Bulk, Contacts, Counted, Fingerprint, MAX_TEXT_IDENTITIES, Part, Rates, Text, day_of,
    five_minutes_of,
};
use schemas::verdict::{Identity, MessageSummary};
use schemas::{Timestamp, UserId};

use super::{Fate, Senders};
use crate::behaviour::{Known, Sighting, identity_hash, same_text};
use crate::bulk::Sent;

/// Identities with a history, of all users of a partition: about 1 KiB each, at most 2.5 KiB. Further ones have none.
const MAX_HISTORIES: usize = 100_000;
/// Texts of one user, and of all users of a partition.
const MAX_TEXTS_PER_USER: usize = 128;
const MAX_TEXTS: usize = 100_000;
/// A text of several identities makes room for others when it was not seen for so long.
const TEXT_IS_OLD: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 3600);

#[derive(Debug, Default, PartialEq)]
pub struct Histories {
    users: HashMap<UserId, OfUser>,
    identities: usize,
    texts: usize,
    /// Rows that changed since they were last written, each once.
    dirty: Vec<(UserId, Part)>,
}

#[derive(Debug, Default, PartialEq)]
struct OfUser {
    identities: HashMap<Identity, OfIdentity>,
    arrivals: Arrivals,
    arrivals_dirty: bool,
    bulk: Bulk,
    bulk_dirty: bool,
    texts: Vec<Text>,
    texts_dirty: Vec<usize>,
}

#[derive(Debug, Default, PartialEq)]
struct OfIdentity {
    rates: Option<Rates>,
    contacts: Contacts,
    rates_dirty: bool,
    contacts_dirty: bool,
}

impl Senders {
    /// What is known of the sender of a message accepted at `at`.
    #[must_use]
    pub fn known(&self, user: &UserId, identity: &Identity, at: Timestamp) -> Known<'_> {
        let since = |row: Option<&schemas::senders::SenderRow>| row.map(|row| row.first_seen);
        Known {
            user_since: since(self.get(user, None)),
            identity_since: since(self.get(user, Some(identity))),
            is_full: !self.has_room(user),
            ..self.histories.known(user, identity, at)
        }
    }

    /// Takes a message into the history of its sender; to be called before it is counted.
    pub fn note_behaviour(&mut self, message: &MessageSummary, sighting: &Sighting, fate: Fate) {
        let (user, identity) = (&message.user, &message.identity);
        let since = self.get(user, Some(identity)).map(|row| row.first_seen);
        let arrives = since.is_none() && sighting.is_of_user && self.has_room(user);
        self.histories.note(user, identity, sighting, (since, arrives), fate, message.accepted_at);
    }

    /// What the From domains of the user sent to large receivers.
    #[must_use]
    pub fn bulk(&self, user: &UserId) -> Option<&Bulk> {
        self.histories.users.get(user).map(|of_user| &of_user.bulk)
    }

    /// Counts what a message accepted at `at` sends to large receivers.
    pub fn note_bulk(&mut self, user: &UserId, sent: &[Sent], at: Timestamp) {
        if sent.is_empty() {
            return;
        }
        let of_user = self.histories.users.entry(user.clone()).or_default();
        sent.iter().for_each(|sent| of_user.bulk.add(day_of(at), sent.pair, sent.recipients));
        if !std::mem::replace(&mut of_user.bulk_dirty, true) {
            self.histories.dirty.push((user.clone(), Part::Bulk));
        }
    }
}

impl Histories {
    fn known(&self, user: &UserId, identity: &Identity, at: Timestamp) -> Known<'_> {
        let Some(of_user) = self.users.get(user) else { return Known::default() };
        let of_identity = of_user.identities.get(identity);
        Known {
            rates: of_identity.and_then(|history| history.rates.as_ref()),
            contacts: of_identity.map(|history| &history.contacts),
            arrivals: of_user.arrivals.count(five_minutes_of(at)),
            texts: &of_user.texts,
            identity: identity_hash(identity),
            ..Known::default()
        }
    }

    fn note(
        &mut self,
        user: &UserId,
        identity: &Identity,
        sighting: &Sighting,
        (since, arrives): (Option<Timestamp>, bool),
        fate: Fate,
        at: Timestamp,
    ) {
        let strangers = self.known(user, identity, at).strangers(sighting);
        let text = sighting.text.filter(|_| strangers > 0);
        if since.is_none() && !arrives && text.is_none() {
            return;
        }
        if !self.users.contains_key(user) {
            self.users.insert(user.clone(), OfUser::default());
        }
        // It was put there just now.
        let Some(of_user) = self.users.get_mut(user) else { return };
        let mut dirty = Vec::new();
        if arrives {
            of_user.arrivals.add(five_minutes_of(at), 1);
            if !std::mem::replace(&mut of_user.arrivals_dirty, true) {
                dirty.push(Part::Arrivals);
            }
        }
        if let Some(since) = since {
            if !of_user.identities.contains_key(identity) && self.identities < MAX_HISTORIES {
                of_user.identities.insert(identity.clone(), OfIdentity::default());
                self.identities += 1;
            }
            if let Some(history) = of_user.identities.get_mut(identity) {
                history.rates.get_or_insert_with(|| Rates::new(since));
                history.note(identity, sighting, strangers, fate, at, &mut dirty);
            }
        }
        if let Some(fingerprint) = text {
            let has_room = self.texts < MAX_TEXTS;
            let before = of_user.texts.len();
            dirty.extend(of_user.note_text(fingerprint, identity_hash(identity), has_room, at));
            self.texts += of_user.texts.len() - before;
        }
        self.dirty.extend(dirty.into_iter().map(|part| (user.clone(), part)));
    }

    /// Takes a row, as it is read from the topic.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn put(&mut self, user: UserId, part: Part, value: &[u8]) -> Result<(), serde_json::Error> {
        let of_user = self.users.entry(user).or_default();
        match part {
            Part::Rates(identity) => {
                of_user.identity(identity, &mut self.identities).rates = Some(serde_json::from_slice(value)?);
            }
            Part::Contacts(identity) => {
                of_user.identity(identity, &mut self.identities).contacts = serde_json::from_slice(value)?;
            }
            Part::Arrivals => of_user.arrivals = serde_json::from_slice(value)?,
            Part::Bulk => of_user.bulk = serde_json::from_slice(value)?,
            Part::Text(place) if place < MAX_TEXTS_PER_USER => {
                let text = serde_json::from_slice(value)?;
                // Rows come in any order; a place that stays empty is the first to be taken.
                while of_user.texts.len() <= place {
                    of_user.texts.push(no_text());
                    self.texts += 1;
                }
                of_user.texts[place] = text;
            }
            Part::Text(_) => {}
        }
        Ok(())
    }

    pub fn remove(&mut self, user: &UserId, part: &Part) {
        let Some(of_user) = self.users.get_mut(user) else { return };
        match part {
            Part::Rates(identity) | Part::Contacts(identity) => {
                self.identities -= usize::from(of_user.identities.remove(identity).is_some());
            }
            Part::Arrivals => of_user.arrivals = Arrivals::default(),
            Part::Bulk => of_user.bulk = Bulk::default(),
            Part::Text(place) => {
                if let Some(text) = of_user.texts.get_mut(*place) {
                    *text = no_text();
                }
            }
        }
        self.forget_if_empty(user);
    }

    /// Forgets an identity, or what is remembered of the user itself; gives the rows that are to leave.
    pub fn leave(&mut self, user: &UserId, identity: Option<&Identity>) -> Vec<Part> {
        let Some(of_user) = self.users.get_mut(user) else { return Vec::new() };
        let mut parts = Vec::new();
        if let Some(identity) = identity {
            let Some(history) = of_user.identities.remove(identity) else { return parts };
            self.identities -= 1;
            parts.extend(history.rates.is_some().then(|| Part::Rates(identity.clone())));
            parts.extend((!history.contacts.is_empty()).then(|| Part::Contacts(identity.clone())));
        } else {
            parts.extend((!of_user.arrivals.is_empty()).then_some(Part::Arrivals));
            parts.extend((!of_user.bulk.is_empty()).then_some(Part::Bulk));
            parts.extend((0..of_user.texts.len()).map(Part::Text));
            self.texts -= of_user.texts.len();
            of_user.arrivals = Arrivals::default();
            of_user.arrivals_dirty = false;
            of_user.bulk = Bulk::default();
            of_user.bulk_dirty = false;
            of_user.texts.clear();
            of_user.texts_dirty.clear();
        }
        self.forget_if_empty(user);
        parts
    }

    fn forget_if_empty(&mut self, user: &UserId) {
        let is_empty = |of_user: &OfUser| {
            let OfUser { identities, arrivals, bulk, texts, .. } = of_user;
            identities.is_empty() && arrivals.is_empty() && bulk.is_empty() && texts.is_empty()
        };
        if self.users.get(user).is_some_and(is_empty) {
            self.users.remove(user);
        }
    }

    /// The rows that changed since the last call, each once, as they are written.
    ///
    /// # Panics
    /// Never: they have string keys only, and writing into memory cannot fail.
    pub fn take_dirty(&mut self) -> Vec<(UserId, Part, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let rows = dirty.into_iter().filter_map(|(user, part)| {
            let value = self.users.get_mut(&user)?.write(&part)?.expect("a history can be written as JSON");
            Some((user, part, value))
        });
        rows.collect()
    }
}

impl OfUser {
    fn identity(&mut self, identity: Identity, identities: &mut usize) -> &mut OfIdentity {
        self.identities.entry(identity).or_insert_with(|| {
            *identities += 1;
            OfIdentity::default()
        })
    }

    /// A row, which is clean then; none where it has left meanwhile.
    fn write(&mut self, part: &Part) -> Option<serde_json::Result<Vec<u8>>> {
        match part {
            Part::Rates(identity) => {
                let history = self.identities.get_mut(identity)?;
                history.rates_dirty = false;
                history.rates.as_ref().map(serde_json::to_vec)
            }
            Part::Contacts(identity) => {
                let history = self.identities.get_mut(identity)?;
                history.contacts_dirty = false;
                Some(serde_json::to_vec(&history.contacts))
            }
            Part::Arrivals => {
                self.arrivals_dirty = false;
                (!self.arrivals.is_empty()).then(|| serde_json::to_vec(&self.arrivals))
            }
            Part::Bulk => {
                self.bulk_dirty = false;
                (!self.bulk.is_empty()).then(|| serde_json::to_vec(&self.bulk))
            }
            Part::Text(place) => {
                self.texts_dirty.retain(|dirty| dirty != place);
                self.texts.get(*place).map(serde_json::to_vec)
            }
        }
    }

    /// Adds an identity to a text; a new one takes the place of one that matters less when there is no room.
    fn note_text(
        &mut self,
        fingerprint: Fingerprint,
        identity: u16,
        has_room: bool,
        at: Timestamp,
    ) -> Option<Part> {
        let place = if let Some(place) = same_text(&self.texts, &fingerprint) {
            place
        } else {
            let text =
                Text { fingerprint, first: at, last: at, identities: std::iter::once(identity).collect() };
            if has_room && self.texts.len() < MAX_TEXTS_PER_USER {
                self.texts.push(text);
                self.texts.len() - 1
            } else {
                let matters =
                    |text: &Text| (text.identities.len() > 1 && at.since(text.last) < TEXT_IS_OLD, text.last);
                let (place, least) =
                    self.texts.iter_mut().enumerate().min_by_key(|(_, text)| matters(text))?;
                *least = text;
                place
            }
        };
        let text = &mut self.texts[place];
        text.last = text.last.max(at);
        if text.identities.len() < MAX_TEXT_IDENTITIES {
            text.identities.insert(identity);
        }
        if self.texts_dirty.contains(&place) {
            return None;
        }
        self.texts_dirty.push(place);
        Some(Part::Text(place))
    }
}

impl OfIdentity {
    fn note(
        &mut self,
        identity: &Identity,
        sighting: &Sighting,
        strangers: u32,
        fate: Fate,
        at: Timestamp,
        dirty: &mut Vec<Part>,
    ) {
        let counted = Counted {
            recipients: sighting.recipients.len() as u32,
            strangers,
            domains: &sighting.domains,
            from_domain: sighting.from_domain,
        };
        let Some(rates) = &mut self.rates else { return };
        rates.count(at, &counted);
        if !std::mem::replace(&mut self.rates_dirty, true) {
            dirty.push(Part::Rates(identity.clone()));
        }
        // Who was to be written to and was not stays a stranger.
        if fate == Fate::Quarantined {
            return;
        }
        let day = day_of(at);
        let mut changed = false;
        for recipient in &sighting.recipients {
            changed |= self.contacts.remember(*recipient, day);
        }
        if changed && !std::mem::replace(&mut self.contacts_dirty, true) {
            dirty.push(Part::Contacts(identity.clone()));
        }
    }
}

/// Is like none.
fn no_text() -> Text {
    Text {
        fingerprint: Fingerprint([0; 32]),
        first: Timestamp(0),
        last: Timestamp(0),
        identities: schemas::history::Hashes::default(),
    }
}

#[cfg(test)]
#[path = "histories_tests.rs"]
mod tests;
