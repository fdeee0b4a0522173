//! To whom an identity writes.

use schemas::Timestamp;
use schemas::history::{MAX_LATELY, Rates, Usual};
use schemas::verdict::Symbol;

use super::{Known, Lately, growing};
use crate::evidence;

/// So many strangers in a day, and more of them than of those who were written to before.
const MIN_STRANGERS: u32 = 30;
const MIN_SHARE_PERCENT: u32 = 60;
/// Times what was the most in weeks.
const STRANGERS_RATIO: (f32, f32) = (3.0, 12.0);
/// An announcement to all customers goes to people who were not written to lately, either.
const STRANGERS_WEIGHT: (f32, f32) = (0.15, 0.3);

const MIN_DOMAINS: u32 = 20;
const DOMAINS_RATIO: (f32, f32) = (2.5, 10.0);
/// Less than strangers, of which it is half a consequence.
const DOMAINS_WEIGHT: (f32, f32) = (0.1, 0.25);

/// An identity without a history that does this is a new system, a first newsletter, or an account made or taken over for
/// abuse: one in six is held to be the last.
const NEW_SENDER_WEIGHT: f32 = 0.15;
const NEW_SENDER_STRANGERS: u32 = 50;
const NEW_SENDER_DOMAINS: u32 = 20;
const NEW_SENDER_MESSAGES: u32 = 100;

pub(super) fn first_seen(rates: &Rates, lately: &Lately) -> Option<Symbol> {
    let Lately { strangers_in_day: strangers, recipients_in_day: recipients, .. } = *lately;
    let usual = &rates.usually.strangers;
    let ratio = strangers as f32 / usual.ceiling();
    // Who is written to as always has nothing to do with it.
    let is_part = lately.strangers > 0;
    let are_most = strangers.saturating_mul(100) >= recipients.saturating_mul(MIN_SHARE_PERCENT);
    if !is_part || strangers < MIN_STRANGERS || !are_most || ratio < STRANGERS_RATIO.0 {
        return None;
    }
    let evidence = format!(
        "{strangers} of {recipients} recipients in the last day never written to before; {}",
        usually(usual)
    );
    let weight = growing(ratio, STRANGERS_RATIO, STRANGERS_WEIGHT);
    Some(evidence::symbol("FIRST_SEEN_RECIPIENTS", weight, &evidence))
}

pub(super) fn domains(rates: &Rates, lately: &Lately) -> Option<Symbol> {
    let usual = &rates.usually.domains;
    let count = lately.domains_in_day;
    let ratio = count as f32 / usual.ceiling();
    if lately.strangers == 0 || count < MIN_DOMAINS || ratio < DOMAINS_RATIO.0 {
        return None;
    }
    let evidence = format!("{} domains of recipients in the last day; {}", at_least(count), usually(usual));
    Some(evidence::symbol("MANY_RECIPIENT_DOMAINS", growing(ratio, DOMAINS_RATIO, DOMAINS_WEIGHT), &evidence))
}

pub(super) fn new_sender(known: &Known<'_>, lately: &Lately, at: Timestamp) -> Option<Symbol> {
    let is_wide =
        lately.domains_in_day >= NEW_SENDER_DOMAINS || lately.messages_in_hour >= NEW_SENDER_MESSAGES;
    let is_burst = lately.strangers_in_day >= NEW_SENDER_STRANGERS && is_wide;
    if !is_burst || lately.strangers == 0 || !known.is_user_known(at) {
        return None;
    }
    let seen = known.identity_since.map_or_else(
        || "not seen before".to_owned(),
        |since| match at.since(since).as_secs() / 3600 {
            hours @ ..48 => format!("first seen {hours} hours ago"),
            hours => {
                let days = known.rates.map_or(0, |rates| rates.days);
                format!("first seen {} days ago, with mail on {days} days before", hours / 24)
            }
        },
    );
    let evidence = format!(
        "{seen}; {} recipients in {} domains in the last day",
        lately.strangers_in_day,
        at_least(lately.domains_in_day)
    );
    Some(evidence::symbol("NEW_SENDER_BURST", NEW_SENDER_WEIGHT, &evidence))
}

fn usually(usual: &Usual) -> String {
    format!("usually {:.0} in a day, at most {}", usual.mean(), usual.largest())
}

/// More are not told apart.
pub(super) fn at_least(count: u32) -> String {
    let or_more = if count as usize >= MAX_LATELY { " or more" } else { "" };
    format!("{count}{or_more}")
}
