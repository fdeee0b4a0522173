//! Hourly sums of a batch, gathered in memory and added to the table at its end.

use std::collections::HashMap;

use rusqlite::{Transaction, params};
use schemas::verdict::MessageSummary;

use super::{Failure, integer};
use crate::rows::Standing;
use crate::store::sql::HOUR_MS;

#[derive(Default)]
pub(super) struct Rollup {
    lines: HashMap<HourKey, Sums>,
}

#[derive(PartialEq, Eq, Hash)]
struct HourKey {
    hour: i64,
    domain: String,
    user: String,
    identity: String,
    from_domain: String,
    destination: String,
    classification: &'static str,
}

/// What one event moved for one recipient.
pub(super) struct Step {
    /// The first event about this recipient: which it is in its message.
    pub first_seen: Option<u32>,
    pub before: Option<Standing>,
    pub after: Standing,
    pub deferred: bool,
}

#[derive(Default)]
struct Sums {
    messages: i64,
    recipients: i64,
    bytes: i64,
    quarantined: i64,
    delivered: i64,
    failed: i64,
    removed: i64,
    deferrals: i64,
}

impl Sums {
    fn move_by(&mut self, standing: Standing, step: i64) {
        match standing {
            Standing::Quarantined => self.quarantined += step,
            Standing::Queued => {}
            Standing::Delivered => self.delivered += step,
            Standing::Failed => self.failed += step,
            Standing::Removed => self.removed += step,
        }
    }
}

impl Rollup {
    /// `identity` is the row's, which may have been erased since.
    pub(super) fn add(&mut self, message: &MessageSummary, identity: &str, destination: &str, step: &Step) {
        let changes_nothing = step.first_seen.is_none() && step.before == Some(step.after) && !step.deferred;
        if message.own || changes_nothing {
            return;
        }
        let key = HourKey {
            hour: message.accepted_at.0.div_euclid(HOUR_MS) * HOUR_MS,
            domain: message.domain.to_string(),
            user: message.user.0.clone(),
            identity: identity.to_owned(),
            from_domain: message.header_from.as_ref().map(ToString::to_string).unwrap_or_default(),
            destination: destination.to_owned(),
            classification: message.classification.code(),
        };
        let line = self.lines.entry(key).or_default();
        if let Some(recipient) = step.first_seen {
            line.recipients += 1;
            if recipient == 0 {
                line.messages += 1;
                line.bytes += integer(message.size_bytes);
            }
        }
        if step.before != Some(step.after) {
            if let Some(before) = step.before {
                line.move_by(before, -1);
            }
            line.move_by(step.after, 1);
        }
        line.deferrals += i64::from(step.deferred);
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO hourly (hour, domain, user, identity, from_domain, destination, classification, messages, \
             recipients, bytes, quarantined, delivered, failed, removed, deferrals) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, \
             recipients = recipients + excluded.recipients, bytes = bytes + excluded.bytes, \
             quarantined = quarantined + excluded.quarantined, delivered = delivered + excluded.delivered, \
             failed = failed + excluded.failed, removed = removed + excluded.removed, \
             deferrals = deferrals + excluded.deferrals",
        )?;
        for (key, sums) in self.lines {
            statement.execute(params![
                key.hour,
                key.domain,
                key.user,
                key.identity,
                key.from_domain,
                key.destination,
                key.classification,
                sums.messages,
                sums.recipients,
                sums.bytes,
                sums.quarantined,
                sums.delivered,
                sums.failed,
                sums.removed,
                sums.deferrals
            ])?;
        }
        Ok(())
    }
}
