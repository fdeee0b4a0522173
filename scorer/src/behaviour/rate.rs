//! How much an identity sends, and when.

use std::time::Duration;

use schemas::Timestamp;
use schemas::history::{Rates, hour_of};
use schemas::verdict::Symbol;

use super::{Lately, growing};
use crate::evidence;

/// Fewer messages in an hour are a person at work, whatever the history says.
const MIN_BURST: u32 = 30;
/// Times what was the most in weeks. Twice that is a busy day; eight times is another kind of sender, and what spammers do
/// with an account is rarely less.
const RATIO: (f32, f32) = (2.0, 8.0);
/// One in three such bursts may be abuse: the others are first newsletters, announcements, a shop that was in the press.
const RATE_WEIGHT: (f32, f32) = (0.15, 0.35);

/// At night, that many are no person any more.
const MIN_BURST_AT_NIGHT: u32 = 20;
/// From so many hours with mail on, on so many days, it is known when an identity sends.
const MIN_HOURS: u32 = 40;
const MIN_DAYS: u32 = 10;
/// An hour is unusual where, with its neighbours, it had at most one in so many of them: who travels, and who keeps
/// summer time, is off by one.
const UNUSUAL_SHARE: u32 = 50;
/// A job that is started by hand once, or moved to the night, looks the same.
const UNUSUAL_HOUR_WEIGHT: f32 = 0.2;

/// A return after weeks is told as long as the burst may be of it.
const RETURN_IS_NEWS: Duration = Duration::from_secs(24 * 3600);

pub(super) fn above_history(rates: &Rates, lately: &Lately, at: Timestamp) -> Option<Symbol> {
    let usual = &rates.usually.messages;
    let count = lately.messages_in_hour;
    let ratio = count as f32 / usual.ceiling();
    if count < MIN_BURST || ratio < RATIO.0 {
        return None;
    }
    let returned = rates.returned.filter(|returned| at.since(returned.at) < RETURN_IS_NEWS);
    let quiet = returned.map(|returned| format!(", and nothing for {} days", returned.after_days));
    let evidence = format!(
        "{count} in the last hour; usually {:.0}, at most {}{}",
        usual.mean(),
        usual.largest(),
        quiet.unwrap_or_default()
    );
    Some(evidence::symbol("RATE_ABOVE_HISTORY", growing(ratio, RATIO, RATE_WEIGHT), &evidence))
}

pub(super) fn unusual_hour(rates: &Rates, lately: &Lately, at: Timestamp) -> Option<Symbol> {
    let (count, hours) = (lately.messages_in_hour, rates.by_hour.sum());
    if count < MIN_BURST_AT_NIGHT || hours < MIN_HOURS || rates.days < MIN_DAYS {
        return None;
    }
    let hour = hour_of(at).rem_euclid(24);
    let around = rates.by_hour.around(hour);
    if around * UNUSUAL_SHARE > hours {
        return None;
    }
    let evidence = format!(
        "{count} in the last hour, at {hour:02} UTC; of the last {hours} hours with mail {around} were between {:02} and {:02}",
        (hour + 23) % 24,
        (hour + 2) % 24
    );
    Some(evidence::symbol("UNUSUAL_HOUR", UNUSUAL_HOUR_WEIGHT, &evidence))
}
