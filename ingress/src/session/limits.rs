//! Limits of the user as they stand in the mirror of `senders`: over one, mail is deferred or refused before DATA. What slips
//! through the lag of the mirror is held by the scorer.

use schemas::limits::{self, Counters, Distinct, Hashes, Over};
use schemas::settings::HeldAction;
use schemas::{Mailbox, SmtpReply, Timestamp};

use super::{SessionUser, World, reply};

/// Messages of one user that may wait for a limit; more are deferred.
const MAX_HELD: u32 = 10_000;

/// The refusal of a message, or of one more recipient: `recipients` counts those of the message so far, with this one.
pub(super) fn refusal(user: &SessionUser, recipients: u64, world: &World<'_>) -> Option<SmtpReply> {
    let row = world.senders.get(&user.id, None);
    if let Some(row) = row.filter(|row| row.held >= MAX_HELD) {
        let text = format!("{} messages of yours wait for a limit already", row.held);
        return Some(reply(450, (4, 7, 1), text));
    }
    let nothing_sent = Counters::default();
    let counters = row.map_or(&nothing_sent, |row| &row.counters);
    let limits = &user.effective.limits;
    // The scorer lets a message with more recipients than a day's limit pass when nothing else was sent. Here, each recipient
    // beyond it can be deferred by itself.
    let too_many = || (recipients > 1).then(|| counters.too_many(world.now, recipients, limits)).flatten();
    let over = counters.over(world.now, recipients, limits).or_else(too_many)?;
    answer(user, &over, world)
}

/// The refusal of a recipient who is one more than may be written to in a day. `new`: those of the message so far who were not
/// written to before, to whom this one is added when it is not refused.
pub(super) fn refusal_of_one_more(
    user: &SessionUser,
    recipient: &Mailbox,
    new: &mut Hashes,
    world: &World<'_>,
) -> Option<SmtpReply> {
    user.effective.limits.distinct_recipients_per_day?;
    let nobody = Distinct::default();
    let distinct = world.senders.recipients(&user.id).unwrap_or(&nobody);
    let hash = limits::hash(recipient);
    if new.contains(hash) || distinct.knows(world.now, hash) {
        return None;
    }
    let over = limits::over_distinct(distinct, world.now, new.len() as u64 + 1, &user.effective.limits);
    let refusal = over.and_then(|over| answer(user, &over, world));
    if refusal.is_none() {
        new.insert(hash);
    }
    refusal
}

fn answer(user: &SessionUser, over: &Over, world: &World<'_>) -> Option<SmtpReply> {
    match user.effective.over_limit {
        HeldAction::Hold => None,
        HeldAction::Reject => Some(reply(550, (5, 7, 1), text(over, None))),
        HeldAction::Defer => Some(reply(450, (4, 7, 1), text(over, Some(world.now)))),
    }
}

fn text(over: &Over, now: Option<Timestamp>) -> String {
    let mut text = format!("Limit reached: {over}");
    if let Some(now) = now {
        let minutes = over.free_at.since(now).as_secs().div_ceil(60).max(1);
        text.push_str(&format!("; try again in {minutes} min"));
    }
    text
}
