//! Where partitions begin and end, and how far groups have come. All calls block on the network.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use schemas::Timestamp;
use schemas::topics::TopicPartition;

use super::clients::{Clients, Isolation};
use super::failure::{passes, unavailable};
use super::names::Names;
use super::notices::Notices;
use crate::LogError;

const LOOK: Duration = Duration::from_millis(20);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A busy group nearly always has a commit under way; an estimate does not wait for all of them.
const STABLE_WITHIN: Duration = Duration::from_millis(500);

pub(super) type Watcher = BaseConsumer<Notices>;
pub(super) type Offsets = BTreeMap<TopicPartition, u64>;

/// Asks the brokers for offsets.
pub(super) struct Bounds {
    clients: Clients,
    names: Names,
    /// Sees the end as it is.
    uncommitted: Watcher,
    /// Sees the end up to which everything is decided.
    committed: Watcher,
    /// Per group, one that waits for commits under way and one that does not.
    groups: Mutex<HashMap<String, Arc<(Watcher, Watcher)>>>,
}

impl Bounds {
    pub(super) fn new(clients: &Clients, names: &Names) -> Result<Self, LogError> {
        Ok(Bounds {
            uncommitted: watcher(&clients.watcher(Isolation::Uncommitted))?,
            committed: watcher(&clients.watcher(Isolation::Committed))?,
            clients: clients.clone(),
            names: names.clone(),
            groups: Mutex::default(),
        })
    }

    /// The first offset kept.
    pub(super) fn starts(&self, of: &[TopicPartition]) -> Result<Offsets, LogError> {
        self.query(&self.uncommitted, of, Offset::Beginning)
    }

    /// The offset that the next record gets.
    pub(super) fn ends(&self, of: &[TopicPartition]) -> Result<Offsets, LogError> {
        self.query(&self.uncommitted, of, Offset::End)
    }

    /// The end of what can be read: before the first transaction that is still open.
    pub(super) fn stable_ends(&self, of: &[TopicPartition]) -> Result<Offsets, LogError> {
        self.query(&self.committed, of, Offset::End)
    }

    /// The offset of the first record that the brokers took at `time` or later; the end where there is none.
    pub(super) fn at_time(&self, of: &[TopicPartition], time: Timestamp) -> Result<Offsets, LogError> {
        let ends = self.stable_ends(of)?;
        let found = self.ask(&self.committed, of, Offset::Offset(time.0.max(0)))?;
        let mut first = self.offsets(&found, |offset| match offset {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => Some(u64::MAX),
        })?;
        for (of, first) in &mut first {
            *first = (*first).min(ends.get(of).copied().unwrap_or(0));
        }
        Ok(first)
    }

    fn query(&self, watcher: &Watcher, of: &[TopicPartition], which: Offset) -> Result<Offsets, LogError> {
        // In the protocol the two ends are asked for in place of a time.
        let found = self.ask(watcher, of, which)?;
        self.offsets(&found, |offset| match offset {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    /// One question to each broker, for all its partitions. `which`: a time in milliseconds, or one of the two ends.
    fn ask(
        &self,
        watcher: &Watcher,
        of: &[TopicPartition],
        which: Offset,
    ) -> Result<TopicPartitionList, LogError> {
        if of.is_empty() {
            return Ok(TopicPartitionList::new());
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let asked = self.list(of, |_| which)?;
            match watcher.offsets_for_times(asked, ANSWER_WITHIN) {
                Ok(found) => return Ok(found),
                // A leader that just moved is asked again; librdkafka looks up where it is meanwhile.
                Err(error) if passes(&error) && Instant::now() < deadline => {
                    // Nothing is fetched; this serves what librdkafka has to say.
                    let _ = watcher.poll(LOOK);
                }
                Err(error) => return Err(unavailable("the ends of partitions cannot be learnt", &error)),
            }
        }
    }

    /// What a group has committed, as it is once no commit is under way.
    pub(super) fn committed(
        &self,
        group: &impl rdkafka::consumer::Consumer<super::assignment::Membership>,
        of: &[TopicPartition],
    ) -> Result<Offsets, LogError> {
        if of.is_empty() {
            return Ok(Offsets::new());
        }
        let found = group
            .committed_offsets(self.list(of, |_| Offset::Invalid)?, ANSWER_WITHIN)
            .map_err(|error| unavailable("the group's offsets cannot be learnt", &error))?;
        self.offsets(&found, committed_or_zero)
    }

    /// The same from outside the group; with a commit under way, perhaps as it was before.
    pub(super) fn observed(&self, group: &str, of: &[TopicPartition]) -> Result<Offsets, LogError> {
        let (stable, plain) = &*self.observers(group)?;
        let found = stable
            .committed_offsets(self.list(of, |_| Offset::Invalid)?, STABLE_WITHIN)
            .or_else(|_| {
                let list =
                    self.list(of, |_| Offset::Invalid).map_err(|_| rdkafka::error::KafkaError::Canceled)?;
                plain.committed_offsets(list, ANSWER_WITHIN)
            })
            .map_err(|error| unavailable("the group's offsets cannot be learnt", &error))?;
        self.offsets(&found, committed_or_zero)
    }

    fn observers(&self, group: &str) -> Result<Arc<(Watcher, Watcher)>, LogError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = groups.get(group) {
            return Ok(Arc::clone(pair));
        }
        let pair = Arc::new((
            watcher(&self.clients.observer(group, Isolation::Committed))?,
            watcher(&self.clients.observer(group, Isolation::Uncommitted))?,
        ));
        groups.insert(group.to_owned(), Arc::clone(&pair));
        Ok(pair)
    }

    pub(super) fn list(
        &self,
        of: &[TopicPartition],
        offset: impl Fn(&TopicPartition) -> Offset,
    ) -> Result<TopicPartitionList, LogError> {
        list(&self.names, of, offset)
    }

    fn offsets(
        &self,
        found: &TopicPartitionList,
        read: impl Fn(Offset) -> Option<u64>,
    ) -> Result<Offsets, LogError> {
        let mut offsets = Offsets::new();
        for element in found.elements() {
            element.error().map_err(|error| unavailable("the offset of a partition", &error))?;
            let Some(of) =
                self.names.topic_of(element.topic()).map(|topic| place(topic, element.partition()))
            else {
                continue;
            };
            let offset = read(element.offset()).ok_or_else(|| {
                LogError::Unavailable(format!("no offset for {} partition {}", of.topic, of.partition))
            })?;
            offsets.insert(of, offset);
        }
        Ok(offsets)
    }
}

/// As librdkafka takes partitions with their offsets.
pub(super) fn list(
    names: &Names,
    of: &[TopicPartition],
    offset: impl Fn(&TopicPartition) -> Offset,
) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for of in of {
        let partition = i32::try_from(of.partition).unwrap_or(i32::MAX);
        list.add_partition_offset(&names.topic(of.topic), partition, offset(of))
            .map_err(|error| unavailable("an offset", &error))?;
    }
    Ok(list)
}

pub(super) fn place(topic: schemas::Topic, partition: i32) -> TopicPartition {
    TopicPartition { topic, partition: u32::try_from(partition).unwrap_or(0) }
}

/// As librdkafka takes an offset; past its largest there is nothing anyway.
pub(super) fn at(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// A group that never committed begins at the start; if that is no longer kept, at the first record that is.
fn committed_or_zero(offset: Offset) -> Option<u64> {
    match offset {
        Offset::Offset(offset) => u64::try_from(offset).ok(),
        _ => Some(0),
    }
}

fn watcher(config: &rdkafka::ClientConfig) -> Result<Watcher, LogError> {
    config
        .create_with_context(Notices::default())
        .map_err(|error| unavailable("a client for offsets cannot be made", &error))
}
