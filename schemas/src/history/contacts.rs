//! To whom an identity has written.

use serde::{Deserialize, Serialize};

use super::Hashes;

/// Recipients of one generation.
const MAX_CONTACTS: usize = 256;
/// A generation that is older begins anew, in days.
const GENERATION_DAYS: i64 = 60;

/// The recipients of an identity, as far as it has few: two generations, of which the older is forgotten when the newer
/// is full or old. Who is written to meanwhile stays known. A stranger is taken for known with a probability of at most 512
/// in 65,536.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// Day on which the newer generation began.
    since: i64,
    current: Hashes,
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    before: Hashes,
}

impl Contacts {
    #[must_use]
    pub fn knows(&self, recipient: u16) -> bool {
        self.current.contains(recipient) || self.before.contains(recipient)
    }

    /// Remembers a recipient that is written to on `day`; `true` when that changed anything.
    pub fn remember(&mut self, recipient: u16, day: i64) -> bool {
        let is_old = !self.current.is_empty() && day.saturating_sub(self.since) >= GENERATION_DAYS;
        if !is_old && self.current.contains(recipient) {
            return false;
        }
        if is_old || self.current.len() >= MAX_CONTACTS {
            self.before = std::mem::take(&mut self.current);
        }
        if self.current.is_empty() {
            self.since = day;
        }
        self.current.insert(recipient)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_empty() && self.before.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_not_written_to_is_forgotten() {
        let mut contacts = Contacts::default();
        assert!(contacts.remember(1, 100) && contacts.remember(2, 100) && !contacts.remember(1, 101));
        assert!(contacts.remember(1, 160), "written anew, into the next generation");
        assert!(contacts.knows(2) && contacts.knows(1));
        assert!(contacts.remember(3, 221));
        assert!(!contacts.knows(2) && contacts.knows(1));
        // The other reason: too many.
        let mut contacts = Contacts::default();
        for recipient in 0..=u16::MAX {
            contacts.remember(recipient, 5);
            assert!(contacts.current.len() <= MAX_CONTACTS && contacts.before.len() <= MAX_CONTACTS);
        }
        assert!(contacts.knows(u16::MAX) && contacts.knows(u16::MAX - 256) && !contacts.knows(0));
        let text = serde_json::to_string(&contacts).unwrap();
        assert!(text.len() < 1500, "{}", text.len());
        assert_eq!(serde_json::from_str::<Contacts>(&text).unwrap(), contacts);
    }

    proptest! {
        /// Whoever was among the last 256 recipients, and written to within 60 days, is known; nobody is who never was.
        #[test]
        fn the_last_recipients_are_known(letters in proptest::collection::vec((0u16..600, 0i64..3), 1..900)) {
            let mut contacts = Contacts::default();
            let (mut day, mut last) = (20_000, std::collections::BTreeMap::new());
            for (number, (recipient, days)) in letters.iter().enumerate() {
                day += days / 2;
                let known = contacts.knows(*recipient);
                match last.get(recipient) {
                    None => prop_assert!(!known),
                    Some((at, on)) if number - at <= MAX_CONTACTS && day - on < GENERATION_DAYS => prop_assert!(known),
                    Some(_) => {}
                }
                contacts.remember(*recipient, day);
                last.insert(*recipient, (number, day));
            }
        }
    }
}
