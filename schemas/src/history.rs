//! How users and identities behave, as the `senders` topic remembers it: small rows of their own beside those of `senders`,
//! written and read by the scorer that owns the user alone.
//!
//! | key (after the user) | row | changes with |
//! |---|---|---|
//! | `rates`, identity | [`Rates`]: what it sent lately, and what it usually sends | each message |
//! | `contacts`, identity | [`Contacts`]: to whom it has written | a recipient it had not written to |
//! | `arrivals` | [`Arrivals`]: new identities of the user in the last hour | a new identity |
//! | `bulk` | [`Bulk`]: recipients of its From domains at large receivers | such a message |
//! | `text`, number | [`Text`]: one of the texts that were last sent to strangers | such a message |
//!
//! What changes seldom stands apart from what changes with each message, so that little is written. Addresses, domains and
//! identities stand there as 16 bits of a hash (32 in `bulk`): two of them are taken for one with a probability of 1 in 65,536
//! for each that is remembered.

mod bits;
mod bulk;
mod contacts;
mod lately;
mod rates;
mod steps;
mod text;
mod usual;

pub use bits::Hashes;
pub use bulk::{Bulk, MAX_BULK_PAIRS};
pub use contacts::Contacts;
pub use lately::{Lately, MAX_LATELY};
pub use rates::{ByHour, Counted, Rates, Return, Usually};
pub use steps::{Arrivals, Steps, day_of, five_minutes_of, hour_of};
pub use text::{Fingerprint, MAX_TEXT_IDENTITIES, Text};
pub use usual::Usual;

use bytes::Bytes;

use crate::UserId;
use crate::verdict::Identity;

/// Which of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Rates(Identity),
    Contacts(Identity),
    Arrivals,
    Bulk,
    /// By its place in the list.
    Text(usize),
}

impl Part {
    /// From kind and sub-id of a record key; none for what a newer version wrote.
    #[must_use]
    pub fn of(kind: &str, sub_id: &str) -> Option<Self> {
        match kind {
            "rates" => Some(Part::Rates(Identity(sub_id.into()))),
            "contacts" => Some(Part::Contacts(Identity(sub_id.into()))),
            "arrivals" => Some(Part::Arrivals),
            "bulk" => Some(Part::Bulk),
            "text" => sub_id.parse().ok().map(Part::Text),
            _ => None,
        }
    }

    /// Record key: user, NUL, kind, NUL, sub-id.
    #[must_use]
    pub fn key(&self, user: &UserId) -> Bytes {
        match self {
            Part::Rates(identity) => format!("{user}\0rates\0{identity}"),
            Part::Contacts(identity) => format!("{user}\0contacts\0{identity}"),
            Part::Arrivals => format!("{user}\0arrivals\0"),
            Part::Bulk => format!("{user}\0bulk\0"),
            Part::Text(place) => format!("{user}\0text\0{place}"),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::senders::SendersView;

    #[test]
    fn mirrors_of_senders_do_not_keep_histories() {
        let (user, identity) = (UserId("shop.example".into()), Identity("bob".into()));
        let mut view = SendersView::default();
        let rates = serde_json::to_vec(&Rates::new(Timestamp(0))).unwrap();
        let of_user = [Part::Arrivals, Part::Bulk, Part::Text(3)];
        for part in [Part::Rates(identity.clone()), Part::Contacts(identity)].into_iter().chain(of_user) {
            view.apply(&part.key(&user), Some(&rates)).unwrap();
        }
        assert_eq!((view.rows().count(), view.holds().count()), (0, 0));
    }
}
