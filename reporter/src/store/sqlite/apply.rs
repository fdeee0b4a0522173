//! One event applied: the row of each recipient it concerns, and what moved in the sums.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::rollup::{Rollup, Step};
use super::{Failure, integer};

use crate::rows::{Change, RecipientChange, Standing};

/// A row as it stood.
struct Before {
    standing: Option<Standing>,
    destination: String,
    identity: String,
}

impl Before {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let code: String = row.get(0)?;
        Ok(Before { standing: Standing::parse(&code), destination: row.get(1)?, identity: row.get(2)? })
    }
}

pub(super) fn change(
    transaction: &Transaction<'_>,
    change: &Change,
    rollup: &mut Rollup,
) -> Result<(), Failure> {
    let id = change.message.id.to_string();
    if !is_new(transaction, change, &id)? {
        return Ok(());
    }
    if let Some(standing) = change.whole_message {
        return whole_message(transaction, change, &id, standing, rollup);
    }
    for recipient in &change.recipients {
        let is_first = recipient.is_verdict && insert(transaction, change, recipient, &id)?;
        let before = if is_first { None } else { read(transaction, &id, recipient.recipient)? };
        match before {
            Some(before) => update(transaction, change, recipient, &id, &before, rollup)?,
            None => {
                if !is_first {
                    insert(transaction, change, recipient, &id)?;
                }
                let step = Step {
                    first_seen: Some(recipient.recipient),
                    before: None,
                    after: recipient.standing,
                    deferred: recipient.deferred,
                };
                let (identity, destination) = (&change.message.identity.0, recipient.forward_path.domain());
                rollup.add(&change.message, identity, destination.as_str(), &step);
            }
        }
    }
    Ok(())
}

/// Enters the event into the index; `false` when it stood there: then it was applied before. On a log that was moved it
/// has another place, which is taken down.
fn is_new(transaction: &Transaction<'_>, change: &Change, id: &str) -> Result<bool, Failure> {
    let position = change.position;
    let (topic, offset) = (position.topic.name(), integer(position.offset));
    let entered = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO events (message_id, event_id, at, topic, log_partition, log_offset) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![id, change.event_id, change.at.0, topic, position.partition, offset])?;
    if entered == 0 {
        transaction
            .prepare_cached(
                "UPDATE events SET log_partition = ?, log_offset = ? \
                 WHERE message_id = ? AND event_id = ? AND topic = ?",
            )?
            .execute(params![position.partition, offset, id, change.event_id, topic])?;
    }
    Ok(entered == 1)
}

fn read(transaction: &Transaction<'_>, id: &str, recipient: u32) -> Result<Option<Before>, Failure> {
    let mut statement = transaction.prepare_cached(
        "SELECT outcome, destination, identity FROM recipients WHERE message_id = ? AND recipient = ?",
    )?;
    Ok(statement.query_row(params![id, recipient], Before::read).optional()?)
}

/// A released or removed message: only what is still in quarantine moves.
fn whole_message(
    transaction: &Transaction<'_>,
    change: &Change,
    id: &str,
    standing: Standing,
    rollup: &mut Rollup,
) -> Result<(), Failure> {
    let quarantined = Standing::Quarantined;
    let rows: Vec<Before> = transaction
        .prepare_cached(
            "SELECT outcome, destination, identity FROM recipients WHERE message_id = ? AND outcome = ?",
        )?
        .query_map(params![id, quarantined.code()], Before::read)?
        .collect::<Result<_, _>>()?;
    transaction
        .prepare_cached(
            "UPDATE recipients SET outcome = ?, at = MAX(at, ?) WHERE message_id = ? AND outcome = ?",
        )?
        .execute(params![standing.code(), change.at.0, id, quarantined.code()])?;
    for row in rows {
        let step = Step { first_seen: None, before: Some(quarantined), after: standing, deferred: false };
        rollup.add(&change.message, &row.identity, &row.destination, &step);
    }
    Ok(())
}

fn update(
    transaction: &Transaction<'_>,
    change: &Change,
    recipient: &RecipientChange,
    id: &str,
    before: &Before,
    rollup: &mut Rollup,
) -> Result<(), Failure> {
    let after = recipient.standing_after(before.standing);
    let step = Step { first_seen: None, before: before.standing, after, deferred: recipient.deferred };
    rollup.add(&change.message, &before.identity, &before.destination, &step);
    if recipient.is_verdict {
        transaction
            .prepare_cached(
                "UPDATE recipients SET outcome = ?, at = MAX(at, ?) WHERE message_id = ? AND recipient = ?",
            )?
            .execute(params![after.code(), change.at.0, id, recipient.recipient])?;
        return Ok(());
    }
    transaction
        .prepare_cached(
            "UPDATE recipients SET outcome = ?, at = MAX(at, ?), tries = tries + ?, reply = ?, remote = ?, egress = ? \
             WHERE message_id = ? AND recipient = ?",
        )?
        .execute(params![
            after.code(),
            change.at.0,
            u32::from(recipient.tried),
            recipient.reply,
            recipient.remote,
            recipient.egress,
            id,
            recipient.recipient
        ])?;
    Ok(())
}

/// `false` when the recipient has a row.
fn insert(
    transaction: &Transaction<'_>,
    change: &Change,
    recipient: &RecipientChange,
    id: &str,
) -> Result<bool, Failure> {
    let message = &change.message;
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO recipients (message_id, recipient, forward_path, outcome, at, accepted_at, user, \
             domain, identity, reverse_path, from_domain, destination, classification, size_bytes, header_message_id, \
             client_queue_id, subject, own, tries, reply, remote, egress) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            id,
            recipient.recipient,
            recipient.forward_path.to_string(),
            recipient.standing.code(),
            change.at.0,
            message.accepted_at.0,
            message.user.as_str(),
            message.domain.as_str(),
            message.identity.0,
            message.reverse_path.to_string(),
            message.header_from.as_ref().map(schemas::Domain::as_str),
            recipient.forward_path.domain().as_str(),
            message.classification.code(),
            integer(message.size_bytes),
            message.header_message_id,
            message.client_queue_id,
            message.subject,
            message.own,
            u32::from(recipient.tried),
            recipient.reply,
            recipient.remote,
            recipient.egress,
        ])?;
    Ok(inserted == 1)
}
