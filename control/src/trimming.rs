//! Dropping of `accepted` and `released` what is past its retention, was read, and that no lane still needs. Only a log that
//! does not do so by itself (Kafka) makes anything of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, LogError, View};
use schemas::queue::QueueEntry;
use schemas::topics::{Retention, TopicPartition};
use schemas::{Position, Timestamp, Topic};
use tokio_util::sync::CancellationToken;

use crate::queue_view::QueueView;

const EVERY: Duration = Duration::from_secs(3600);

/// The first offset of each partition that some lane still needs.
type Needed = BTreeMap<TopicPartition, u64>;

/// Trims every hour until `shutdown`.
pub async fn run(log: Log, clock: Arc<dyn Clock>, queue: View<QueueView>, shutdown: CancellationToken) {
    let work = async {
        queue.caught_up().await;
        let mut earlier = needed(queue.read().entries());
        loop {
            tokio::time::sleep(EVERY).await;
            let now = needed(queue.read().entries());
            if let Err(error) = trim(&log, clock.now(), &earlier, &now).await {
                tracing::warn!(%error, "what nobody needs any more stays in the log for another hour");
            }
            for node in unattended(queue.read().entries(), clock.now()) {
                tracing::warn!(
                    node,
                    "nobody works on the lane of this node, and its messages are kept for it: start the node, or move its \
                     lane with `mailweir lane move`"
                );
            }
            earlier = now;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn trim(log: &Log, at: Timestamp, earlier: &Needed, now: &Needed) -> Result<(), LogError> {
    for (topic, group, before, spared) in steps(at, earlier, now) {
        log.trim(topic, group, before, &spared).await?;
    }
    Ok(())
}

/// What is trimmed: the topic, the group that must have read, the age, the positions that stay. An entry that moves to
/// another lane may for a moment be seen in neither, so what was needed `earlier` is spared as well.
fn steps(
    at: Timestamp,
    earlier: &Needed,
    now: &Needed,
) -> [(Topic, &'static str, Timestamp, Vec<Position>); 2] {
    let position = |(of, offset): (&TopicPartition, &u64)| Position {
        topic: of.topic,
        partition: of.partition,
        offset: *offset,
    };
    let spared = earlier.iter().chain(now).map(position).collect();
    let before = |topic| at.minus(kept(topic));
    [
        (Topic::Accepted, "scorer", before(Topic::Accepted), Vec::new()),
        (Topic::Released, "delivery", before(Topic::Released), spared),
    ]
}

fn kept(topic: Topic) -> Duration {
    match topic.retention() {
        Retention::Time(kept) => kept,
        Retention::Compacted => Duration::MAX,
    }
}

fn needed<'a>(entries: impl Iterator<Item = &'a QueueEntry>) -> Needed {
    let mut needed = Needed::new();
    for entry in entries {
        let first = needed.entry(entry.position.topic_partition()).or_insert(entry.position.offset);
        *first = entry.position.offset.min(*first);
    }
    needed
}

/// The nodes whose lanes hold messages that their worker would have written anew by now, had it been there.
#[must_use]
pub fn unattended<'a>(entries: impl Iterator<Item = &'a QueueEntry>, now: Timestamp) -> BTreeSet<String> {
    let before = now.minus(kept(Topic::Released) / 4 * 3);
    entries.filter(|entry| entry.stored_at < before).map(|entry| entry.node.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry from JSON, since fields with defaults may be added to it.
    fn entry(node: &str, offset: u64, partition: u32, stored_at: Timestamp) -> QueueEntry {
        serde_json::from_value(serde_json::json!({
            "message": {
                "id": "01K0000000000000000000000A", "accepted_at": 0, "user": "u@a.example", "domain": "a.example",
                "identity": "u", "reverse_path": "u@a.example", "classification": "clean", "size_bytes": 1,
            },
            "node": node, "site": "b.example", "recipients": [], "queued_at": 0, "tries": 1, "next_attempt": 0,
            "expires_at": 0, "stored_at": stored_at,
            "position": { "topic": "released", "partition": partition, "offset": offset },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_message_of_each_partition_is_needed() {
        let at = |partition, offset| entry("mx1", offset, partition, Timestamp(0));
        let entries = [at(1, 40), at(0, 7), at(1, 12), at(1, 90)];
        let of = |partition| TopicPartition { topic: Topic::Released, partition };
        assert_eq!(needed(entries.iter()), Needed::from([(of(0), 7), (of(1), 12)]));
    }

    #[test]
    fn what_a_lane_needs_or_needed_is_spared() {
        const DAY: Duration = Duration::from_secs(86_400);
        let (at, of) =
            (Timestamp(1_800_000_000_000), TopicPartition { topic: Topic::Released, partition: 1 });
        let position = |offset| Position { topic: Topic::Released, partition: 1, offset };
        let [accepted, released] = steps(at, &Needed::from([(of, 12)]), &Needed::from([(of, 90)]));
        assert_eq!(accepted, (Topic::Accepted, "scorer", at.minus(2 * DAY), vec![]));
        assert_eq!(
            released,
            (Topic::Released, "delivery", at.minus(2 * DAY), vec![position(12), position(90)])
        );
    }

    #[test]
    fn a_lane_that_nobody_works_on_is_told() {
        const HOUR: Duration = Duration::from_secs(3600);
        let now = Timestamp(1_800_000_000_000);
        let stored = |node, hours| entry(node, 0, 0, now.minus(HOUR * hours));
        // Whoever works on a lane writes anew after a day.
        let entries = [stored("mx1", 25), stored("mx2", 37), stored("mx2", 1)];
        assert_eq!(unattended(entries.iter(), now), BTreeSet::from(["mx2".to_owned()]));
    }
}
