//! The records that a decision becomes.

use bytes::Bytes;
use eventlog::NewRecord;
use schemas::history::Part;
use schemas::limits::Distinct;
use schemas::models::{Delta, Feedback, ModelRecord};
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::reply::Reply;
use schemas::senders::{HoldRow, RecipientsRow, SenderRow};
use schemas::topics::MAX_VALUE_BYTES;
use schemas::verdict::{BY_POLICY, Disposition, Judged, Verdict, VerdictEvent};
use schemas::{
    Envelope, MessageId, Position, SmtpReply, Timestamp, Topic, UserId, models, quarantine, senders, spool,
};
use serde::Serialize;

use crate::judge::Judgement;

/// The message with its verdict, for `released` or `quarantined`. `message` is empty when it stands in `bodies`.
pub fn judged(topic: Topic, judged: &Judged, message: &[u8]) -> NewRecord {
    let mut value = spooled(judged, message);
    if value.len() > MAX_VALUE_BYTES {
        // Envelope, message and evidence have maxima that leave room; should the sum be over all the same, the mail
        // matters more than why it was judged so, which the verdict says too.
        let mut bare = judged.clone();
        for symbol in &mut bare.symbols {
            symbol.evidence.clear();
        }
        value = spooled(&bare, message);
    }
    NewRecord::new(topic, user_bytes(&judged.message.user), judged.message.id.to_string(), value)
}

fn spooled(judged: &Judged, message: &[u8]) -> Bytes {
    // Writing into memory cannot fail, and the types have string keys only.
    spool::encode(judged, message).expect("a verdict can be written as JSON")
}

/// The head of that record.
pub fn head(judgement: &Judgement, envelope: Envelope) -> Judged {
    let verdict = &judgement.verdict;
    Judged {
        envelope,
        message: verdict.message.clone(),
        score: verdict.score,
        symbols: verdict.symbols.clone(),
        remove_fields: judgement.remove_fields.clone(),
        released_by: None,
        kept: false,
    }
}

/// A new row of `quarantine`.
pub fn new_row(verdict: &Verdict) -> QuarantineRow {
    debug_assert_eq!(verdict.disposition, Disposition::Quarantine);
    QuarantineRow {
        message: verdict.message.clone(),
        state: QuarantineState::In,
        recipients: verdict.recipients.clone(),
        symbols: verdict.symbols.clone(),
        since: verdict.at,
        by: BY_POLICY.into(),
        position: verdict.accepted,
    }
}

/// The row of a message as its record in `quarantined` says it.
pub fn row_of(
    judged: &Judged,
    state: QuarantineState,
    since: Timestamp,
    by: &str,
    position: Position,
) -> QuarantineRow {
    QuarantineRow {
        message: judged.message.clone(),
        state,
        recipients: judged.envelope.recipients.iter().map(|r| r.forward_path.clone()).collect(),
        symbols: judged.symbols.clone(),
        since,
        by: by.into(),
        position,
    }
}

pub fn row(row: &QuarantineRow) -> NewRecord {
    let user = &row.message.user;
    NewRecord::new(Topic::Quarantine, user_bytes(user), quarantine::key(user, row.message.id), json(row))
}

pub fn row_tombstone(user: &UserId, id: MessageId) -> NewRecord {
    NewRecord::tombstone(Topic::Quarantine, user_bytes(user), quarantine::key(user, id))
}

pub fn sender_row(row: &SenderRow) -> NewRecord {
    let key = senders::key(&row.user, row.identity.as_ref());
    NewRecord::new(Topic::Senders, user_bytes(&row.user), key, json(row))
}

pub fn sender_tombstone(user: &UserId, identity: Option<&schemas::verdict::Identity>) -> NewRecord {
    NewRecord::tombstone(Topic::Senders, user_bytes(user), senders::key(user, identity))
}

/// A row of how a sender behaves, as it is written.
pub fn history_row(user: &UserId, part: &Part, value: Vec<u8>) -> NewRecord {
    NewRecord::new(Topic::Senders, user_bytes(user), part.key(user), value)
}

pub fn history_tombstone(user: &UserId, part: &Part) -> NewRecord {
    NewRecord::tombstone(Topic::Senders, user_bytes(user), part.key(user))
}

/// What is kept of the different recipients of a user; none: nothing is.
pub fn recipients(user: &UserId, distinct: Option<&Distinct>) -> NewRecord {
    let key = senders::recipients_key(user);
    match distinct {
        Some(distinct) => {
            let row = RecipientsRow { distinct: distinct.clone() };
            NewRecord::new(Topic::Senders, user_bytes(user), key, json(&row))
        }
        None => NewRecord::tombstone(Topic::Senders, user_bytes(user), key),
    }
}

pub fn hold(row: &HoldRow) -> NewRecord {
    let user = &row.message.user;
    NewRecord::new(Topic::Senders, user_bytes(user), senders::hold_key(user, row.message.id), json(row))
}

pub fn hold_tombstone(user: &UserId, id: MessageId) -> NewRecord {
    NewRecord::tombstone(Topic::Senders, user_bytes(user), senders::hold_key(user, id))
}

/// An event of `verdicts`, keyed by message id, or by user when it is about no message.
pub fn event(user: &UserId, id: Option<MessageId>, event: &VerdictEvent) -> NewRecord {
    let key = id.map_or_else(|| user.to_string(), |id| id.to_string());
    NewRecord::new(Topic::Verdicts, user_bytes(user), key, json(event))
}

/// The answer for the session that waits, in the partition it named.
pub fn session_reply(partition: u32, message_id: MessageId, reply: SmtpReply) -> NewRecord {
    let key = message_id.to_string();
    NewRecord::new(Topic::Replies, key.clone(), key, json(&Reply::Session { message_id, reply }))
        .in_partition(partition)
}

pub fn command_reply(partition: u32, reply: &Reply, command_id: &str) -> NewRecord {
    let key = command_id.to_owned();
    NewRecord::new(Topic::Replies, key.clone(), key, json(reply)).in_partition(partition)
}

/// What somebody said of a message, for the learner.
pub fn feedback(feedback: Feedback) -> NewRecord {
    model_record(&ModelRecord::Feedback(feedback))
}

pub fn model_delta(delta: &Delta) -> NewRecord {
    model_record(&ModelRecord::Delta(delta.clone()))
}

fn model_record(record: &ModelRecord) -> NewRecord {
    let key = models::key(record);
    NewRecord::new(Topic::Models, key.clone(), key, json(record))
}

pub fn model_tombstone(key: &[u8]) -> NewRecord {
    let key = Bytes::copy_from_slice(key);
    NewRecord::tombstone(Topic::Models, key.clone(), key)
}

fn user_bytes(user: &UserId) -> Bytes {
    Bytes::copy_from_slice(user.as_str().as_bytes())
}

fn json<T: Serialize>(value: &T) -> Bytes {
    // Writing into memory cannot fail, and the types have string keys only.
    serde_json::to_vec(value).expect("an event can be written as JSON").into()
}
