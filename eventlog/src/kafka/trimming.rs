//! Dropping what nobody needs of topics that are kept until they are read. The brokers know how old records are and how far
//! a group has come, but not both together, so their own retention would drop mail that nobody has read yet.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions};
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

use super::failure::unavailable;
use super::notices::Notices;
use super::offsets::{Offsets, at};
use super::shared::Shared;
use crate::LogError;

const ANSWER_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn trim(
    shared: &Arc<Shared>,
    topic: Topic,
    group: &str,
    before: Timestamp,
    spared: &[Position],
) -> Result<(), LogError> {
    let (group, of) = (group.to_owned(), shared.all(topic));
    let (starts, committed, old) = shared
        .blocking(move |shared| {
            let bounds = &shared.bounds;
            Ok((bounds.starts(&of)?, bounds.observed(&group, &of)?, bounds.at_time(&of, before)?))
        })
        .await?;
    let firsts = first_kept(&starts, &committed, &old, spared);
    if firsts.is_empty() {
        return Ok(());
    }
    let of: Vec<TopicPartition> = firsts.keys().copied().collect();
    let list = shared.bounds.list(&of, |of| at(firsts[of]))?;
    let admin: AdminClient<Notices> = shared
        .clients
        .admin()
        .create_with_context(Notices::default())
        .map_err(|error| unavailable("a client to drop records cannot be made", &error))?;
    let options =
        AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN));
    let dropped = admin
        .delete_records(&list, &options)
        .await
        .map_err(|error| unavailable("old records cannot be dropped", &error))?;
    for partition in dropped.elements() {
        partition.error().map_err(|error| unavailable("old records cannot be dropped", &error))?;
        if let Offset::Offset(start) = partition.offset() {
            tracing::debug!(topic = partition.topic(), partition = partition.partition(), start, "trimmed");
        }
    }
    Ok(())
}

/// Where each partition is to begin, of those that can begin later than they do.
fn first_kept(starts: &Offsets, committed: &Offsets, old: &Offsets, spared: &[Position]) -> Offsets {
    let mut firsts = Offsets::new();
    for (of, start) in starts {
        let (Some(committed), Some(old)) = (committed.get(of), old.get(of)) else { continue };
        let spared = spared.iter().filter(|position| position.topic_partition() == *of);
        let first = spared.map(|position| position.offset).chain([*committed, *old]).min().unwrap_or(0);
        if first > *start {
            firsts.insert(*of, first);
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: TopicPartition = TopicPartition { topic: Topic::Released, partition: 1 };

    fn first(start: u64, committed: u64, old: u64, spared: &[(u32, u64)]) -> Option<u64> {
        let of = |offset| Offsets::from([(OF, offset)]);
        let position = |(partition, offset): &(u32, u64)| Position {
            topic: Topic::Released,
            partition: *partition,
            offset: *offset,
        };
        let spared: Vec<Position> = spared.iter().map(position).collect();
        first_kept(&of(start), &of(committed), &of(old), &spared).get(&OF).copied()
    }

    #[test]
    fn what_is_unread_or_young_or_spared_stays() {
        assert_eq!(first(10, 50, 40, &[]), Some(40));
        assert_eq!(first(10, 30, 40, &[]), Some(30));
        assert_eq!(first(10, 50, 40, &[(1, 35), (1, 20), (0, 1)]), Some(20));
        assert_eq!(first(10, 50, 40, &[(1, 10)]), None);
        assert_eq!(first(10, 0, 40, &[]), None, "a group that never committed needs everything");
        assert_eq!(first(40, 50, 40, &[]), None);
    }
}
