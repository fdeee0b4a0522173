//! Retention never eats mail: what waits in the lane is written anew before its topic would drop it.

use std::collections::HashMap;

use eventlog::{Log, LogError, NewRecord, bodies};
use schemas::queue::QueueEntry;
use schemas::topics::Retention;
use schemas::{Envelope, Position, Timestamp, Topic, spool};

use crate::consumer::Handle;
use crate::lane::Lane;
use crate::records;
use crate::site::Key;

/// Messages, and their bytes, that are written anew in one step.
const MAX_COPIES: usize = 256;
const MAX_COPY_BYTES: usize = 8 << 20;
/// Writes messages anew that have passed half their topic's retention, oldest first, and points their entries there. Says
/// whether there are more. Nothing about these entries may be waiting to be committed.
///
/// # Errors
/// As `Consumer::commit`.
pub(crate) async fn write_anew(
    lane: &mut Lane,
    log: &Log,
    lane_consumer: &Handle,
    now: Timestamp,
) -> Result<bool, LogError> {
    let Retention::Time(kept) = Topic::Released.retention() else { return Ok(false) };
    let mut old: Vec<(Position, Key)> = lane
        .keys()
        .filter(|(_, entry)| entry.stored_at < now.minus(kept / 2))
        .map(|(key, entry)| (entry.position, key.clone()))
        .collect();
    old.sort_unstable_by_key(|(position, _)| (position.partition, position.offset));
    let (mut copies, mut sources, mut bytes) = (Vec::new(), Vec::new(), 0);
    for position in positions_once(&old) {
        if copies.len() >= MAX_COPIES || bytes >= MAX_COPY_BYTES {
            break;
        }
        match copy_of(log, position, now).await {
            Ok(Some((copy, chunk_bytes))) => {
                bytes += chunk_bytes + copy.value.as_ref().map_or(0, bytes::Bytes::len);
                copies.push(copy);
                sources.push(position);
            }
            gone => {
                if let Err(error) = gone {
                    if error.is_transient() {
                        return Err(error);
                    }
                    tracing::error!(%position, %error, "a queued message cannot be read");
                }
                forget_age(lane, &old, position, now);
            }
        }
    }
    if copies.is_empty() {
        return Ok(false);
    }
    let more = old.iter().any(|(position, _)| !sources.contains(position));
    // Two steps: a copy is inert until an entry points to it.
    let positions = lane_consumer.commit(copies, None).await?;
    let moved: HashMap<Position, Position> = sources.into_iter().zip(positions).collect();
    let mut entries = Vec::new();
    for (from, key) in old {
        let (Some(position), Some(entry)) = (moved.get(&from), lane.get(&key).cloned()) else { continue };
        let state = lane.state(&key);
        let entry = QueueEntry { position: *position, stored_at: now, ..entry };
        entries.extend(records::entry(&entry));
        lane.put(entry, state);
    }
    lane_consumer.commit(entries, None).await?;
    Ok(more)
}

/// Each position once: the groups of one message share its copy.
fn positions_once(old: &[(Position, Key)]) -> Vec<Position> {
    let mut positions: Vec<Position> = old.iter().map(|(position, _)| *position).collect();
    positions.dedup();
    positions
}

/// What is no longer there is not looked for again here; whoever tries it finds out and holds it.
fn forget_age(lane: &mut Lane, old: &[(Position, Key)], gone: Position, now: Timestamp) {
    for (_, key) in old.iter().filter(|(position, _)| *position == gone) {
        if let Some(entry) = lane.get(key).cloned() {
            let state = lane.state(key);
            lane.put(QueueEntry { stored_at: now, ..entry }, state);
        }
    }
}

/// The same message, marked as a kept copy, and how many bytes of chunks were written anew for it.
async fn copy_of(
    log: &Log,
    position: Position,
    now: Timestamp,
) -> Result<Option<(NewRecord, usize)>, LogError> {
    let Some(record) = log.read(position).await? else { return Ok(None) };
    let Some(value) = record.value else { return Ok(None) };
    let damaged = |error: spool::SpoolError| LogError::Damaged { position, detail: error.to_string() };
    let (mut judged, message): (schemas::verdict::Judged, _) = spool::decode(&value).map_err(damaged)?;
    judged.kept = true;
    let chunk_bytes = write_chunks_anew(log, &mut judged.envelope, now).await?;
    let value = spool::encode(&judged, &message).map_err(damaged)?;
    Ok(Some((
        NewRecord::new(Topic::Released, judged.envelope.user.0.clone(), record.key, value),
        chunk_bytes,
    )))
}

/// A large message stands in `bodies`, which keeps it longer, but not for ever: what has passed a third of that time is
/// written anew. Says how many bytes. What is gone stays as it is named; whoever tries the message finds out.
async fn write_chunks_anew(log: &Log, envelope: &mut Envelope, now: Timestamp) -> Result<usize, LogError> {
    let Retention::Time(kept) = Topic::Bodies.retention() else { return Ok(0) };
    let is_old = |since: Timestamp| now.since(since) > kept / 3;
    if !is_old(envelope.accepted_at) {
        return Ok(0);
    }
    let (mut renewed, mut bytes) = (Vec::new(), 0);
    for (index, position) in envelope.chunks.iter().enumerate() {
        let Some(chunk) = log.read(*position).await? else { return Ok(bytes) };
        // They came together: the first tells the age of all.
        if index == 0 && !is_old(chunk.appended_at) {
            return Ok(0);
        }
        let Some(value) = chunk.value else { return Ok(bytes) };
        bytes += value.len();
        renewed.extend(log.append(vec![bodies::chunk(envelope.id, index, value)]).await?);
    }
    envelope.chunks = renewed;
    Ok(bytes)
}
