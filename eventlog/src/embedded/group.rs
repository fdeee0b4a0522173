//! Who owns which partition. Changed only by the writer thread between two batches, so that a commit is either wholly
//! before a rebalance or fenced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio::sync::Notify;

use crate::LogError;

/// One membership; a slot that joins again is another member.
pub(super) type MemberId = u64;

/// Every group of the log.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    next_member: MemberId,
}

#[derive(Default)]
struct Group {
    generation: u64,
    members: BTreeMap<String, Member>,
    owners: HashMap<TopicPartition, MemberId>,
}

struct Member {
    id: MemberId,
    topics: Vec<Topic>,
    wake: Arc<Notify>,
}

/// What a member may do now.
pub(super) enum Standing {
    /// Nothing changed since the generation it knows.
    Same,
    /// A new generation, and what it owns in it.
    Changed { generation: u64, owned: Vec<TopicPartition> },
    /// It was replaced.
    Gone,
}

impl Groups {
    pub(super) fn join(
        &mut self,
        group: &str,
        slot: &str,
        topics: &[Topic],
        wake: Arc<Notify>,
        partitions: impl Fn(Topic) -> u32,
    ) -> MemberId {
        self.next_member += 1;
        let id = self.next_member;
        let group = self.groups.entry(group.to_owned()).or_default();
        let replaced = group.members.insert(slot.to_owned(), Member { id, topics: topics.to_vec(), wake });
        if let Some(replaced) = replaced {
            replaced.wake.notify_one();
        }
        group.rebalance(partitions);
        id
    }

    pub(super) fn leave(&mut self, group: &str, id: MemberId, partitions: impl Fn(Topic) -> u32) {
        if let Some(group) = self.groups.get_mut(group) {
            let before = group.members.len();
            group.members.retain(|_, member| member.id != id);
            if group.members.len() != before {
                group.rebalance(partitions);
            }
        }
    }

    pub(super) fn standing(&self, group: &str, id: MemberId, known_generation: u64) -> Standing {
        let Some(group) = self.groups.get(group) else { return Standing::Gone };
        if !group.members.values().any(|member| member.id == id) {
            return Standing::Gone;
        }
        if group.generation == known_generation {
            return Standing::Same;
        }
        let owned = group.owners.iter().filter(|(_, owner)| **owner == id).map(|(partition, _)| *partition);
        let mut owned: Vec<_> = owned.collect();
        owned.sort_unstable();
        Standing::Changed { generation: group.generation, owned }
    }

    /// Whether `id` owns every partition it wants to commit.
    pub(super) fn check_owner(
        &self,
        group: &str,
        id: MemberId,
        commits: &[(TopicPartition, u64)],
    ) -> Result<(), LogError> {
        let fenced = |detail: String| LogError::Fenced { group: group.to_owned(), detail };
        let Some(known) = self.groups.get(group) else { return Err(fenced("the group is gone".into())) };
        if !known.members.values().any(|member| member.id == id) {
            return Err(fenced("its slot was taken by another member".into()));
        }
        match commits.iter().find(|(partition, _)| known.owners.get(partition) != Some(&id)) {
            None => Ok(()),
            Some((partition, _)) => {
                Err(fenced(format!("{}/{} belongs to another member", partition.topic, partition.partition)))
            }
        }
    }
}

impl Group {
    /// Range assignment, topic by topic, over the members that want it in the order of their slots: members with the
    /// same topics get the same partition numbers of each.
    fn rebalance(&mut self, partitions: impl Fn(Topic) -> u32) {
        self.generation += 1;
        self.owners.clear();
        for topic in Topic::ALL {
            let members: Vec<&Member> = self.members.values().filter(|m| m.topics.contains(&topic)).collect();
            if members.is_empty() {
                continue;
            }
            let count = partitions(topic) as usize;
            let (share, extra) = (count / members.len(), count % members.len());
            let mut partition = 0;
            for (index, member) in members.iter().enumerate() {
                for _ in 0..share + usize::from(index < extra) {
                    self.owners.insert(TopicPartition { topic, partition }, member.id);
                    partition += 1;
                }
            }
        }
        for member in self.members.values() {
            member.wake.notify_one();
        }
    }
}
