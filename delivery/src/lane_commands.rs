//! What an operator asks of the lane: retry, hold, resume, remove, re-route.

use std::time::Duration;

use eventlog::NewRecord;
use schemas::attempt::{Attempt, AttemptCause, Outcome, RecipientResult};
use schemas::commands::{Action, Command, QueueSelect};
use schemas::queue::QueueEntry;
use schemas::reply::Reply;
use schemas::{Timestamp, Topic};

use crate::lane::{Lane, State};
use crate::outcome::local;
use crate::records;
use crate::site::Key;

/// How far the clocks of two nodes may be apart. A command is for what was queued when it was given; one that is read again
/// much later, because its offset was forgotten, must not touch what was queued since.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// What carrying out a command writes. The lane is changed already; the records must be committed.
pub(crate) struct Carried {
    pub outputs: Vec<NewRecord>,
}

/// Whether it tells this node that entries were moved into its lane.
pub(crate) fn says_read(command: &Command, node: &str) -> bool {
    matches!(&command.action, Action::LaneRead { node: of } if of == node)
}

/// The answer to that: how many were found; none when the log could not be read.
pub(crate) fn lane_was_read(
    command: &Command,
    found: Option<u64>,
    reply_partitions: u32,
) -> Option<NewRecord> {
    let text = match found {
        Some(0) => "nothing new in the lane".to_owned(),
        Some(found) => format!("{found} entries taken into the lane"),
        None => "the lane cannot be read now; give the command again".to_owned(),
    };
    reply(command, found.is_some(), found.unwrap_or(0), text, reply_partitions)
}

/// Carries out a command for this node; none when it is not for it.
pub(crate) fn carry_out(
    lane: &mut Lane,
    command: &Command,
    node: &str,
    now: Timestamp,
    reply_partitions: u32,
) -> Option<Carried> {
    let (for_node, select) = addressed(&command.action)?;
    if for_node != node {
        return None;
    }
    let newest = command.at.plus(CLOCK_TOLERANCE);
    let is_meant = |entry: &QueueEntry| entry.queued_at <= newest && select.selects(entry);
    let keys: Vec<Key> =
        lane.keys().filter(|(_, entry)| is_meant(entry)).map(|(key, _)| key.clone()).collect();
    let mut outputs = Vec::new();
    let (mut acted, mut too_late) = (0, 0);
    for key in keys {
        let in_flight = lane.is_in_flight(&key);
        let Some(entry) = lane.get(&key).cloned() else { continue };
        if in_flight && matches!(command.action, Action::QueueRemove { .. }) {
            too_late += 1;
            continue;
        }
        acted += 1;
        match changed(&command.action, entry, now) {
            Some(entry) => {
                outputs.extend(records::entry(&entry));
                // What is being delivered at this moment comes back under the new conditions.
                lane.put(entry, if in_flight { State::InFlight } else { State::Resting });
            }
            None => {
                if let Some(entry) = lane.take(&key) {
                    outputs.extend(records::attempt(removal(&entry, command, now)));
                    outputs.push(records::tombstone(node, &key));
                }
            }
        }
    }
    outputs.extend(answer(command, acted, too_late, reply_partitions));
    Some(Carried { outputs })
}

fn addressed(action: &Action) -> Option<(&str, &QueueSelect)> {
    match action {
        Action::QueueRetry { node, select }
        | Action::QueueHold { node, select }
        | Action::QueueResume { node, select }
        | Action::QueueRemove { node, select }
        | Action::QueueReroute { node, select, .. } => Some((node, select)),
        _ => None,
    }
}

/// The entry after the command; none when it is removed.
fn changed(action: &Action, mut entry: QueueEntry, now: Timestamp) -> Option<QueueEntry> {
    match action {
        Action::QueueRetry { .. } => entry.next_attempt = now,
        Action::QueueHold { .. } => entry.held = true,
        Action::QueueResume { .. } => {
            // The time on hold does not count against the time to retry.
            if entry.held {
                entry.held = false;
                entry.next_attempt = now;
                entry.expires_at = entry.expires_at.max(now.plus(Duration::from_secs(24 * 3600)));
            }
        }
        Action::QueueReroute { route, .. } => {
            entry.route = Some(route.clone());
            entry.next_attempt = now;
        }
        _ => return None,
    }
    Some(entry)
}

/// The terminal event of a removed entry.
fn removal(entry: &QueueEntry, command: &Command, now: Timestamp) -> Attempt {
    let result = |recipient: &schemas::queue::QueuedRecipient| RecipientResult {
        index: recipient.index,
        forward_path: recipient.forward_path.clone(),
        outcome: Outcome::Removed,
        reply: local(554, (5, 7, 0), format!("Removed from the queue by {}", command.by)),
        local: true,
        next_attempt: None,
    };
    Attempt {
        id: format!("{}/{}/removed", entry.message.id, entry.site),
        message: entry.message.clone(),
        node: entry.node.clone(),
        site: entry.site.clone(),
        at: now,
        duration_ms: 0,
        number: entry.tries,
        cause: AttemptCause::Removed,
        remote_host: None,
        remote_address: None,
        egress: None,
        tls: None,
        tls_note: None,
        signatures: Vec::new(),
        recipients: entry.recipients.iter().map(result).collect(),
    }
}

fn answer(command: &Command, acted: u64, too_late: u64, reply_partitions: u32) -> Option<NewRecord> {
    let text = if too_late == 0 {
        format!("{acted} entries")
    } else {
        format!("{acted} entries; too late for {too_late} that are being delivered at this moment")
    };
    reply(command, true, acted, text, reply_partitions)
}

fn reply(
    command: &Command,
    ok: bool,
    affected: u64,
    text: String,
    reply_partitions: u32,
) -> Option<NewRecord> {
    // A partition that does not exist would keep the whole commit from going through.
    let partition = command.reply_partition.filter(|partition| *partition < reply_partitions)?;
    let reply = Reply::Command { command_id: command.id.clone(), ok, affected, text };
    let value = serde_json::to_vec(&reply).ok()?;
    Some(
        NewRecord::new(Topic::Replies, command.id.clone(), command.id.clone(), value).in_partition(partition),
    )
}

#[cfg(test)]
mod tests {
    use schemas::MessageId;

    use super::*;

    #[test]
    fn what_was_queued_after_the_command_is_not_meant() {
        let sample = include_str!("../../schemas/golden/queue/entry.json");
        let mut entry: QueueEntry = serde_json::from_str(sample).expect("an entry");
        let (mut lane, given_at) = (Lane::default(), Timestamp(1_000_000_000));
        for (n, seconds_after) in [(1, 0), (2, 30), (3, 61)] {
            entry.message.id = MessageId::derived(&n.to_string(), given_at);
            entry.queued_at = given_at.plus(Duration::from_secs(seconds_after));
            lane.put(entry.clone(), State::Resting);
        }
        let action = Action::QueueRemove { node: entry.node.clone(), select: QueueSelect::default() };
        let command =
            Command { id: "c".into(), by: "root".into(), at: given_at, reply_partition: None, action };
        let late = given_at.plus(Duration::from_secs(30 * 24 * 3600));
        assert!(carry_out(&mut lane, &command, &entry.node, late, 1).is_some());
        let left: Vec<MessageId> = lane.keys().map(|(key, _)| key.0).collect();
        assert_eq!(left, [entry.message.id], "a clock may be a little ahead, no more");
    }
}
