//! How a sender behaves: what of a message is unlike what its identity did before, as symbols. Pure functions of (what is
//! known of the sender, what is seen of the message); `state::Histories` remembers.
//!
//! | symbol | weight | says |
//! |---|---|---|
//! | `RATE_ABOVE_HISTORY` | 0.15 to 0.35 | many more messages in the last hour than in any of the last weeks |
//! | `UNUSUAL_HOUR` | 0.2 | many messages at an hour at which the identity never sends |
//! | `FIRST_SEEN_RECIPIENTS` | 0.15 to 0.3 | most recipients of the last day were never written to before, and they are many more than usual |
//! | `MANY_RECIPIENT_DOMAINS` | 0.1 to 0.25 | many more domains of recipients in a day than usual |
//! | `NEW_SENDER_BURST` | 0.15 | an identity nobody knows writes to many strangers in many domains |
//! | `MANY_FROM_DOMAINS` | 0.1, 0.2 | one identity writes to strangers under many From domains in a day |
//! | `IDENTITY_CHURN` | 0, 0.2 | more than 50 new identities of the user in an hour, and this is one of them |
//! | `SAME_TEXT` | 0.1 to 0.3 | nearly the same text from several identities of the user to strangers |
//!
//! A first newsletter is as much out of the ordinary as a spam run. So all of them together make a message suspect, wherever
//! the threshold of spam stands (`decision`); one that its content makes nearly spam they make spam.
//!
//! What is asked of whom: mail of our own nothing. The null reverse-path answers those who wrote: only its rate. Mail that
//! is passed on has the texts and the authors of others: where its identity is the account that passes it on, its rate, hours
//! and recipients; where it is the envelope, so somebody outside, nothing.

mod identities;
mod rate;
mod recipients;
mod text;

use std::time::Duration;

use schemas::history::{Contacts, Fingerprint, MAX_LATELY, Rates, Text, five_minutes_of, hour_of};
use schemas::verdict::{Identity, Symbol};
use schemas::{Mailbox, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::facts::Facts;

pub use text::same_text;

/// All that [`symbols`] gives: a stored verdict tells them by their names.
pub const SYMBOLS: [&str; 8] = [
    "RATE_ABOVE_HISTORY",
    "UNUSUAL_HOUR",
    "FIRST_SEEN_RECIPIENTS",
    "MANY_RECIPIENT_DOMAINS",
    "NEW_SENDER_BURST",
    "MANY_FROM_DOMAINS",
    "IDENTITY_CHURN",
    "SAME_TEXT",
];

/// How long a user or an identity is watched before it counts as known, and how many days with mail that takes.
const KNOWN_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
const KNOWN_DAYS: u32 = 3;

/// What of a message its sender's history is about. Addresses and domains as hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    pub recipients: Vec<u16>,
    pub domains: Vec<u16>,
    pub from_domain: Option<u16>,
    pub text: Option<Fingerprint>,
    /// Its identity is one of the user's, so a new one counts as new.
    pub is_of_user: bool,
}

impl Sighting {
    /// None where there is nothing to ask: see above.
    #[must_use]
    pub fn of(
        facts: &Facts<'_>,
        is_forwarded: bool,
        identity_source: &str,
        text: Option<Fingerprint>,
    ) -> Option<Self> {
        if facts.envelope.origin.is_some() || (is_forwarded && identity_source == "envelope") {
            return None;
        }
        if facts.envelope.reverse_path.is_null() {
            return Some(Sighting::default());
        }
        let each_once = |mut hashes: Vec<u64>| -> Vec<u16> {
            hashes.sort_unstable();
            hashes.dedup();
            hashes.into_iter().map(short).collect()
        };
        let recipients = || facts.envelope.recipients.iter().map(|recipient| &recipient.forward_path);
        let domain = |mailbox: &Mailbox| xxh3_64(mailbox.domain().as_str().as_bytes());
        let from_domain = facts.header_from().map(domain).map(short).filter(|_| !is_forwarded);
        Some(Sighting {
            recipients: each_once(recipients().map(address).collect()),
            domains: each_once(recipients().map(domain).collect()),
            from_domain,
            text: text.filter(|_| !is_forwarded),
            is_of_user: !is_forwarded,
        })
    }
}

/// The 16 bits of a hash that stand in the history.
fn short(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// An identity as it stands in the history of a text.
#[must_use]
pub fn identity_hash(identity: &Identity) -> u16 {
    short(xxh3_64(identity.0.as_bytes()))
}

fn address(mailbox: &Mailbox) -> u64 {
    // People write the same address in upper and lower case; the maximum is that of RFC 5321.
    let mut lower = [0; 64];
    let local = mailbox.local_part().as_bytes();
    let lower = &mut lower[..local.len().min(64)];
    lower.copy_from_slice(&local[..lower.len()]);
    lower.make_ascii_lowercase();
    xxh3_64_with_seed(mailbox.domain().as_str().as_bytes(), xxh3_64(lower))
}

/// What is known of a sender before a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    pub rates: Option<&'a Rates>,
    pub contacts: Option<&'a Contacts>,
    /// When the user was first seen, and the identity.
    pub user_since: Option<Timestamp>,
    pub identity_since: Option<Timestamp>,
    /// There is no room for the history of a new identity.
    pub is_full: bool,
    /// New identities of the user in the hour before the message.
    pub arrivals: u32,
    /// Texts that identities of the user sent to strangers.
    pub texts: &'a [Text],
    /// As it stands among those of a text.
    pub identity: u16,
}

impl Known<'_> {
    fn is_stranger(&self, recipient: u16) -> bool {
        self.contacts.is_none_or(|contacts| !contacts.knows(recipient))
    }

    /// How many recipients of a message were not written to before.
    #[must_use]
    pub fn strangers(&self, sighting: &Sighting) -> u32 {
        sighting.recipients.iter().filter(|recipient| self.is_stranger(**recipient)).count() as u32
    }

    /// The history of the identity, when it is long enough to say what is usual.
    fn usual_rates(&self, at: Timestamp) -> Option<&Rates> {
        self.rates.filter(|rates| at.since(rates.since) >= KNOWN_AFTER && rates.days >= KNOWN_DAYS)
    }

    /// Where the whole user is new, everything of it is: that says nothing.
    fn is_user_known(&self, at: Timestamp) -> bool {
        self.user_since.is_some_and(|since| at.since(since) >= KNOWN_AFTER)
    }
}

/// What the windows of an identity hold with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lately {
    messages_in_hour: u32,
    recipients_in_day: u32,
    strangers_in_day: u32,
    /// Of the message alone.
    strangers: u32,
    domains_in_day: u32,
    from_domains_in_day: u32,
}

impl Lately {
    fn of(sighting: &Sighting, known: &Known<'_>, at: Timestamp) -> Self {
        let strangers = known.strangers(sighting);
        let recipients = sighting.recipients.len() as u32;
        let from_domain = sighting.from_domain.as_slice();
        let Some(rates) = known.rates else {
            return Lately {
                messages_in_hour: 1,
                recipients_in_day: recipients,
                strangers_in_day: strangers,
                strangers,
                domains_in_day: sighting.domains.len().min(MAX_LATELY) as u32,
                from_domains_in_day: from_domain.len() as u32,
            };
        };
        let hour = hour_of(at);
        Lately {
            messages_in_hour: rates.last_hour.count(five_minutes_of(at)).saturating_add(1),
            recipients_in_day: rates.recipients.count(hour).saturating_add(recipients),
            strangers_in_day: rates.strangers.count(hour).saturating_add(strangers),
            strangers,
            domains_in_day: rates.domains.with(hour, &sighting.domains) as u32,
            from_domains_in_day: rates.from_domains.with(hour, from_domain) as u32,
        }
    }
}

/// What is unlike the sender, of a message accepted at `at`.
#[must_use]
pub fn symbols(sighting: &Sighting, known: &Known<'_>, at: Timestamp) -> Vec<Symbol> {
    let lately = Lately::of(sighting, known, at);
    let mut found = Vec::new();
    if let Some(rates) = known.usual_rates(at) {
        found.extend(rate::above_history(rates, &lately, at));
        found.extend(rate::unusual_hour(rates, &lately, at));
        found.extend(recipients::first_seen(rates, &lately));
        found.extend(recipients::domains(rates, &lately));
    } else {
        found.extend(recipients::new_sender(known, &lately, at));
    }
    found.extend(identities::from_domains(known, &lately, at));
    found.extend(identities::churn(sighting, known, at));
    found.extend(text::symbol(sighting, known, &lately, at));
    found
}

/// A weight that grows from the first to the second with the logarithm of `ratio`, between these two.
fn growing(ratio: f32, (from, to): (f32, f32), (least, most): (f32, f32)) -> f32 {
    let part = ((ratio / from).ln() / (to / from).ln()).clamp(0.0, 1.0);
    ((least + (most - least) * part) * 100.0).round() / 100.0
}

#[cfg(test)]
mod scenarios;
