//! Giving a command: into the partition of whoever carries it out, then waiting for the answer in `replies`.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{NewRecord, Record, Tail, TailFrom};
use schemas::commands::{Action, Command};
use schemas::reply::Reply;
use schemas::{MessageId, Topic};

use crate::api::CommandOutcome;
use crate::{Context, Error};

/// Commands written in one append.
const BATCH: usize = 500;
/// Lines of text for the person.
const MAX_TEXT: usize = 20;

/// Writes the commands durably, then waits until all are answered or none was for `command_timeout`. What is not
/// answered by then is pending: it will be carried out.
///
/// # Errors
/// What the log says; commands of earlier batches may have been given.
pub async fn give(context: &Context, by: &str, actions: Vec<Action>) -> Result<CommandOutcome, Error> {
    let log = &context.log;
    let partition = log.partition_of(Topic::Replies, format!("control\0{}", context.config.node).as_bytes());
    // Before the first append, so that no answer can come too early.
    let mut tail = log.tail(Topic::Replies, partition, TailFrom::End).await?;
    let mut open: HashSet<Bytes> = HashSet::with_capacity(actions.len());
    let mut batch = Vec::with_capacity(actions.len().min(BATCH));
    let count = actions.len();
    for (index, action) in actions.into_iter().enumerate() {
        let at = context.clock.now();
        let id = MessageId::new(at).to_string();
        let partition_key = action.partition_key();
        let command =
            Command { id: id.clone(), by: by.to_owned(), at, reply_partition: Some(partition), action };
        let value = serde_json::to_vec(&command)
            .map_err(|error| Error::Internal(format!("a command cannot be written: {error}")))?;
        open.insert(Bytes::from(id.clone()));
        batch.push(NewRecord::new(Topic::Commands, partition_key, id, value));
        if batch.len() == BATCH || index + 1 == count {
            log.append(std::mem::take(&mut batch)).await?;
        }
    }
    Ok(answers(tail.as_mut(), open, context.config.command_timeout).await)
}

async fn answers(tail: &mut dyn Tail, mut open: HashSet<Bytes>, timeout: Duration) -> CommandOutcome {
    let mut outcome = CommandOutcome::default();
    let mut refusals = Vec::new();
    let mut deadline = tokio::time::Instant::now() + timeout;
    while !open.is_empty() {
        let records = match tokio::time::timeout_at(deadline, tail.next(1000)).await {
            Ok(Ok(records)) => records,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the answers to a command cannot be read");
                break;
            }
            Err(_) => break,
        };
        for reply in records.iter().filter_map(|record| reply_to(record, &mut open)) {
            deadline = tokio::time::Instant::now() + timeout;
            let (ok, affected, text) = reply;
            outcome.affected += affected;
            outcome.refused += u64::from(!ok);
            let lines = if ok { &mut outcome.text } else { &mut refusals };
            if lines.len() < MAX_TEXT && !text.is_empty() {
                lines.push(text);
            }
        }
    }
    outcome.pending = open.len() as u64;
    // Refusals first: they are what the person must see.
    refusals.append(&mut outcome.text);
    refusals.truncate(MAX_TEXT);
    outcome.text = refusals;
    if outcome.pending > 0 {
        outcome.text.push("given, not yet confirmed: it is in the log and will be carried out".into());
    }
    outcome
}

/// The answer in a record, if it is one that is waited for.
fn reply_to(record: &Record, open: &mut HashSet<Bytes>) -> Option<(bool, u64, String)> {
    if !open.contains(&record.key) {
        return None;
    }
    match serde_json::from_slice(record.value.as_deref()?) {
        Ok(Reply::Command { ok, affected, text, .. }) => {
            open.remove(&record.key);
            Some((ok, affected, text))
        }
        _ => None,
    }
}
