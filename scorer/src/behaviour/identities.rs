//! As whom an identity writes, and how many identities there are.

use std::time::Duration;

use schemas::Timestamp;
use schemas::verdict::Symbol;

use super::recipients::at_least;
use super::{Known, Lately, Sighting};
use crate::evidence;

/// A person writes under one or two.
const MIN_FROM_DOMAINS: u32 = 5;
const FROM_RATIO: f32 = 2.5;
const FROM_WEIGHT: f32 = 0.2;
/// Of an identity without a history: it may be a whole server that nothing tells apart.
const MIN_FROM_DOMAINS_UNKNOWN: u32 = 10;
const FROM_WEIGHT_UNKNOWN: f32 = 0.1;

/// New identities of a user in an hour (PRODUCT.md 2).
const MAX_ARRIVALS: u32 = 50;
/// A server that is moved brings all of its accounts at once, too.
const CHURN_WEIGHT: f32 = 0.2;
/// An identity is one of the new ones for the hour in which they are counted, and a step.
const ARRIVED: Duration = Duration::from_secs(65 * 60);

/// Many From domains of one identity. A contact form has those of its visitors, but it writes to its owner, whom it knows:
/// only what goes to strangers counts.
pub(super) fn from_domains(known: &Known<'_>, lately: &Lately, at: Timestamp) -> Option<Symbol> {
    let count = lately.from_domains_in_day;
    if lately.strangers == 0 || count < MIN_FROM_DOMAINS {
        return None;
    }
    let Some(rates) = known.usual_rates(at) else {
        let is_many = count >= MIN_FROM_DOMAINS_UNKNOWN && known.is_user_known(at);
        let evidence = format!("{} From domains in the last day, of a new sender", at_least(count));
        return is_many.then(|| evidence::symbol("MANY_FROM_DOMAINS", FROM_WEIGHT_UNKNOWN, &evidence));
    };
    let usual = &rates.usually.from_domains;
    let ratio = count as f32 / usual.ceiling();
    let evidence = format!(
        "{} From domains in the last day; usually {:.0}, at most {}",
        at_least(count),
        usual.mean(),
        usual.largest()
    );
    (ratio >= FROM_RATIO).then(|| evidence::symbol("MANY_FROM_DOMAINS", FROM_WEIGHT, &evidence))
}

/// More new identities than a user has: somebody makes them up, with each message another.
pub(super) fn churn(sighting: &Sighting, known: &Known<'_>, at: Timestamp) -> Option<Symbol> {
    if !sighting.is_of_user {
        return None;
    }
    let arrives = known.identity_since.is_none() && !known.is_full;
    let is_new = arrives || known.identity_since.is_some_and(|since| at.since(since) < ARRIVED);
    let count = known.arrivals.saturating_add(u32::from(arrives));
    if !is_new || count <= MAX_ARRIVALS {
        return None;
    }
    let (weight, but) = if known.is_user_known(at) {
        (CHURN_WEIGHT, "")
    } else {
        // On its first day every identity is new.
        (0.0, ", of a user that is new itself")
    };
    let evidence = format!("{count} new identities in the last hour{but}");
    Some(evidence::symbol("IDENTITY_CHURN", weight, &evidence))
}
