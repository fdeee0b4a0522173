//! Moves the queue of a node that is gone to the lane of another one (docs/adr/0007).
//!
//! The move takes the slot of the node that is gone in the group of its lane. Whoever had it can commit nothing from then
//! on; should that node come back in the middle, it takes its slot again, and it is the move that can commit nothing. Each
//! step takes entries out of the one lane and puts them into the other at once, so every entry is in one lane at any time.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Consumer, LogError, NewRecord, Record, TableEvent};
use schemas::Topic;
use schemas::commands::Action;
use schemas::queue::{self, QueueEntry};

use crate::api::CommandOutcome;
use crate::{Context, Error, command};

/// A slot that is nobody's, to see whether anybody else is in the group.
const LOOKING: &str = ".lane-move";
/// A node that was killed has left its group by then.
const GONE_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// What is moved in one step.
const STEP_ENTRIES: u64 = 250;
const STEP_BYTES: usize = 4 << 20;

/// Whether the names make sense; `lanes`: those that hold anything.
///
/// # Errors
/// `Invalid`, `NotFound`.
pub fn check(from: &str, to: &str, lanes: &BTreeSet<&str>) -> Result<(), Error> {
    if from == to {
        return Err(Error::invalid(
            format!("the queue of {from} is in the lane of {from} already"),
            "name the node that is gone, then the one that shall deliver its queue",
        ));
    }
    if !lanes.contains(from) {
        let there: Vec<&str> = lanes.iter().copied().collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(Error::not_found(
            format!("nothing is in the lane of {from}"),
            format!(
                "if an earlier move was interrupted, {to} has been told of it now; lanes that hold something: {there}"
            ),
        ));
    }
    Ok(())
}

/// Moves the lane of `from`, and has `to` take it in.
///
/// # Errors
/// `Conflict` when `from` is at work, `Unavailable` when no delivery of `to` answers; what the log says. What was moved by
/// then is in the lane of `to`.
pub async fn run(context: &Context, by: &str, from: &str, to: &str) -> Result<CommandOutcome, Error> {
    if !answers(context, by, to).await? {
        return Err(Error::unavailable(
            format!("no delivery of node {to} answers"),
            "start it, or name a node that delivers",
        ));
    }
    if answers(context, by, from).await? {
        return Err(at_work(from));
    }
    let group = format!("lane-{from}");
    let alone = take(context, &group, LOOKING).await?.ok_or_else(|| at_work(from))?;
    alone.leave().await;
    let mut slot = take(context, &group, from).await?.ok_or_else(|| at_work(from))?;
    let moved = move_all(context, slot.as_mut(), from, to).await;
    slot.leave().await;
    // Also what an interrupted move brought there.
    let read = command::give(context, by, vec![Action::LaneRead { node: to.to_owned() }]).await?;
    let moved = moved.map_err(|error| match error {
        LogError::Fenced { .. } => at_work(from),
        other => Error::Log(other),
    })?;
    Ok(CommandOutcome { affected: moved, ..read })
}

/// Has a node take in what may have been moved into its lane without its being told.
///
/// # Errors
/// What the log says.
pub async fn tell(context: &Context, by: &str, to: &str) -> Result<(), Error> {
    answers(context, by, to).await.map(drop)
}

fn at_work(node: &str) -> Error {
    Error::conflict(
        format!("node {node} is at work, and delivers its queue itself"),
        "stop its delivery for good first; `mailweir queue` shows what is left with it",
    )
}

/// Whether the delivery of a node carries out commands.
async fn answers(context: &Context, by: &str, node: &str) -> Result<bool, Error> {
    let asked = command::give(context, by, vec![Action::LaneRead { node: node.to_owned() }]).await?;
    Ok(asked.pending == 0)
}

/// Joins the group of a lane; none when others are in it and stay.
async fn take(context: &Context, group: &str, slot: &str) -> Result<Option<Box<dyn Consumer>>, Error> {
    let wanted = context.log.partitions(Topic::Commands) as usize;
    let mut consumer = context.log.join(group, slot, &[Topic::Commands]).await?;
    let deadline = tokio::time::Instant::now() + GONE_WITHIN;
    while consumer.positions().len() < wanted {
        let polled = consumer.poll(1, LOOK).await;
        if matches!(polled, Err(LogError::Fenced { .. })) || tokio::time::Instant::now() > deadline {
            consumer.leave().await;
            return Ok(None);
        }
        polled?;
    }
    Ok(Some(consumer))
}

/// Moves everything, some entries at a time; says how many.
async fn move_all(context: &Context, slot: &mut dyn Consumer, from: &str, to: &str) -> Result<u64, LogError> {
    let log = &context.log;
    let partition_of = |node: &str| log.partition_of(Topic::Queue, &queue::lane_key(node));
    let (here, there) = (partition_of(from), partition_of(to));
    let mut table = log.table(Topic::Queue, Some(&[here])).await?;
    let mut lane = std::collections::BTreeMap::new();
    'rows: loop {
        for event in table.next(1000).await? {
            match event {
                TableEvent::Row(row) => take_row(&mut lane, row, from),
                TableEvent::CaughtUp => break 'rows,
            }
        }
    }
    let (mut moved, mut step, mut bytes, mut in_step) = (0u64, Vec::new(), 0, 0u64);
    let mut left = lane.into_iter().peekable();
    while let Some((key, entry)) = left.next() {
        let records = moves(key, entry, from, to, here == there);
        bytes += records.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len).sum::<usize>();
        step.extend(records);
        in_step += 1;
        if in_step >= STEP_ENTRIES || bytes >= STEP_BYTES || left.peek().is_none() {
            // The offsets as they are go along: what was commanded of the lane stays for the node itself.
            let offsets = slot.positions();
            slot.commit(std::mem::take(&mut step), &offsets).await?;
            moved += std::mem::take(&mut in_step);
            bytes = 0;
        }
    }
    Ok(moved)
}

type Lane = std::collections::BTreeMap<Bytes, QueueEntry>;

fn take_row(lane: &mut Lane, row: Record, node: &str) {
    let entry = row.value.as_deref().map(serde_json::from_slice::<QueueEntry>);
    match entry {
        Some(Ok(entry)) if entry.node == node => drop(lane.insert(row.key, entry)),
        None | Some(Ok(_)) => drop(lane.remove(&row.key)),
        Some(Err(error)) => {
            tracing::error!(position = %row.position, %error, "a queue entry does not parse and is not moved");
        }
    }
}

/// What takes an entry out of one lane and puts it into another. Where both are in one partition its key is written over,
/// and a tombstone would take it out of both.
fn moves(key: Bytes, entry: QueueEntry, from: &str, to: &str, same_partition: bool) -> Vec<NewRecord> {
    // It is told of the move, and keeps what it was given.
    let entry = QueueEntry { node: to.to_owned(), passed_on_at: None, moved: true, ..entry };
    let Ok(value) = serde_json::to_vec(&entry) else { return Vec::new() }; // text and numbers: nothing of it can fail
    let mut records = vec![NewRecord::new(Topic::Queue, queue::lane_key(to), key.clone(), value)];
    if !same_partition {
        records.push(NewRecord::tombstone(Topic::Queue, queue::lane_key(from), key));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_leaves_one_lane_as_it_enters_the_other() {
        let sample = include_str!("../../schemas/golden/queue/entry_with_everything.json");
        let entry: QueueEntry = serde_json::from_str(sample).expect("an entry");
        let records = moves("key".into(), entry.clone(), "a", "b", false);
        assert_eq!(records.len(), 2);
        let there: QueueEntry =
            serde_json::from_slice(records[0].value.as_deref().expect("a value")).expect("an entry");
        let expected = QueueEntry { node: "b".into(), moved: true, ..entry.clone() };
        assert_eq!(there, expected, "nothing else changes");
        assert!(records[1].value.is_none() && records[0].key == records[1].key);
        assert_ne!(records[0].partitioning, records[1].partitioning);
        assert_eq!(moves("key".into(), entry, "a", "b", true).len(), 1, "no tombstone behind it");
    }

    #[test]
    fn names_that_make_no_sense_are_refused() {
        let lanes = BTreeSet::from(["a", "c"]);
        assert!(check("a", "b", &lanes).is_ok());
        assert!(matches!(check("a", "a", &lanes), Err(Error::Invalid { .. })));
        let error = check("b", "a", &lanes).expect_err("nothing is there");
        assert!(error.fix().contains("a, c"), "{}", error.fix());
    }
}
