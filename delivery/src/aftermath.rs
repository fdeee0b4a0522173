//! The decision what follows from a try: who is done with, who is to be tried again and when, and whom to tell.

use std::time::Duration;

use schemas::attempt::{Attempt, AttemptCause, Egress, Outcome, RecipientResult};
use schemas::queue::{QueueEntry, QueuedRecipient};
use schemas::{SmtpReply, Timestamp};

use crate::outcome::{self, local};
use crate::retry::RetrySchedule;
use crate::site::Tried;

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
