//! The lane of this node in memory: what is still to be delivered and when, folded from the `queue` topic; and the
//! decision what follows from a try.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use schemas::attempt::{Attempt, AttemptCause, Egress, Outcome, RecipientResult};
use schemas::queue::{QueueEntry, QueuedRecipient};
use schemas::{SmtpReply, Timestamp};

use crate::outcome::{self, local};
use crate::retry::RetrySchedule;
use crate::site::{Key, Tried};

/// What is to be delivered, by key and by time.
#[derive(Default)]
pub(crate) struct Lane {
    entries: HashMap<Key, Slot>,
    due: BTreeSet<(Timestamp, Key)>,
}

struct Slot {
    entry: QueueEntry,
    in_flight: bool,
}

impl Lane {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&QueueEntry> {
        self.entries.get(key).map(|slot| &slot.entry)
    }

    pub(crate) fn is_in_flight(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|slot| slot.in_flight)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Key, &QueueEntry)> {
        self.entries.iter().map(|(key, slot)| (key, &slot.entry))
    }

    /// Puts an entry in, in place of the one that was there. One that is being tried has no time of its own.
    pub(crate) fn put(&mut self, entry: QueueEntry, in_flight: bool) {
        let key = (entry.message.id, entry.site.clone());
        self.take(&key);
        if !in_flight && !entry.held {
            self.due.insert((entry.next_attempt, key.clone()));
        }
        self.entries.insert(key, Slot { entry, in_flight });
    }

    pub(crate) fn take(&mut self, key: &Key) -> Option<QueueEntry> {
        let slot = self.entries.remove(key)?;
        self.due.remove(&(slot.entry.next_attempt, key.clone()));
        Some(slot.entry)
    }

    /// When the next entry is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next entry that is due, now in flight.
    pub(crate) fn start_due(&mut self, now: Timestamp) -> Option<(Key, QueueEntry)> {
        let first = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&first);
        let slot = self.entries.get_mut(&first.1)?;
        slot.in_flight = true;
        Some((first.1, slot.entry.clone()))
    }

    /// An entry in flight waits again, until `at`.
    pub(crate) fn postpone(&mut self, key: &Key, at: Timestamp) {
        if let Some(slot) = self.entries.get_mut(key) {
            slot.in_flight = false;
            slot.entry.next_attempt = at;
            if !slot.entry.held {
                self.due.insert((at, key.clone()));
            }
        }
    }
}

/// What delivery decides by.
pub(crate) struct Rules<'a> {
    pub node: &'a str,
    pub retry: &'a RetrySchedule,
    pub delay_notice_after: Duration,
}

/// What follows from a try.
pub(crate) struct Aftermath {
    pub attempt: Attempt,
    /// What is still to be delivered.
    pub left: Option<QueueEntry>,
    /// The sender is to be told that it takes longer.
    pub delay_notice: bool,
}

/// Bytes of reply text that all recipients of an entry share in a record.
const REPLY_TEXT_BUDGET: usize = 300_000;
/// With more recipients than this, an entry does without their last replies: the attempts have them.
const MAX_LAST_REPLIES: usize = 2000;

/// Decides per recipient: delivered, failed, or to be tried again; after the time to retry is over, failed.
pub(crate) fn after(entry: &QueueEntry, tried: &Tried, rules: &Rules<'_>, now: Timestamp) -> Aftermath {
    let number = entry.tries + 1;
    let notice_due = entry.queued_at.plus(rules.delay_notice_after);
    let next = rules.retry.next(entry.message.id, number, now, entry.expires_at);
    // The sender is told in time, whatever the schedule says: one more try just then.
    let next = if now < notice_due && !entry.delay_notice_sent { next.min(notice_due) } else { next };
    let expired = now >= entry.expires_at;
    let mut any_expired = false;
    let text_bytes = REPLY_TEXT_BUDGET / entry.recipients.len().max(1);
    let keeps_replies = entry.recipients.len() <= MAX_LAST_REPLIES;
    let mut results = Vec::with_capacity(tried.replies.len());
    let mut left = Vec::new();
    for (index, reply, is_local) in &tried.replies {
        let Some(queued) = entry.recipients.iter().find(|r| r.index == *index) else { continue };
        let outcome = outcome::of_reply(reply);
        let reply = crate::reply::cut(reply.clone(), text_bytes);
        let result = |outcome, reply: SmtpReply, local, next_attempt| RecipientResult {
            index: *index,
            forward_path: queued.forward_path.clone(),
            outcome,
            reply,
            local,
            next_attempt,
        };
        match outcome {
            Outcome::Deferred if expired => {
                let text = format!("Not delivered in time; the last reply was: {reply}");
                any_expired = true;
                let text = crate::reply::cut(local(451, (4, 4, 7), text), text_bytes);
                results.push(result(Outcome::Failed, text, true, None));
            }
            Outcome::Deferred => {
                results.push(result(outcome, reply.clone(), *is_local, Some(next)));
                left.push(QueuedRecipient { last_reply: keeps_replies.then_some(reply), ..queued.clone() });
            }
            _ => results.push(result(outcome, reply, *is_local, None)),
        }
    }
    let delay_notice = !left.is_empty() && !entry.delay_notice_sent && now >= notice_due;
    let left = (!left.is_empty()).then(|| QueueEntry {
        recipients: left,
        tries: number,
        next_attempt: next,
        delay_notice_sent: entry.delay_notice_sent || delay_notice,
        ..entry.clone()
    });
    let attempt = Attempt {
        id: format!("{}/{}/{number}", entry.message.id, entry.site),
        message: entry.message.clone(),
        node: rules.node.to_owned(),
        site: entry.site.clone(),
        at: now.minus(tried.duration),
        duration_ms: u64::try_from(tried.duration.as_millis()).unwrap_or(u64::MAX),
        number,
        cause: if any_expired { AttemptCause::Expired } else { AttemptCause::Tried },
        remote_host: tried.server.as_ref().map(|server| server.name.clone()),
        remote_address: tried.server.as_ref().map(|server| server.address),
        egress: Some(Egress {
            ip: tried.source.ip,
            ehlo: tried.ehlo.clone(),
            pool: tried.source.pool.clone(),
        }),
        tls: tried.tls.clone(),
        tls_note: tried.tls_note.clone(),
        signatures: tried.signatures.clone(),
        recipients: results,
    };
    Aftermath { attempt, left, delay_notice }
}
