//! Consumer groups: who belongs to one, and who owns which partition. Pure but for the time handed in.
//!
//! A partition changes hands in two steps, so that no record is with two members at once: its owner is told to give it
//! up and does so at its next poll; only then does the other get it. An owner that does not poll in time, and one whose
//! slot was taken over, lose theirs at once. Every change runs on the writer's thread, between two batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio::sync::Notify;

/// What a consumer and the writer share about a membership.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: String,
    pub(super) slot: String,
    pub(super) topics: Vec<Topic>,
    /// Wakes the consumer: new records, or a change here.
    pub(super) notify: Arc<Notify>,
    view: Mutex<MemberView>,
}

/// The membership as it stands.
#[derive(Debug, Default)]
pub(super) struct MemberView {
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
    /// Some of `owned` must be given up at the next poll.
    pub(super) must_release: bool,
    /// Why this member is out, for good.
    pub(super) fenced: Option<String>,
    /// Counts the changes.
    pub(super) version: u64,
}

/// A partition owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// Grows with every change of hands, so that a partition that came back is not taken for one that stayed.
    pub(super) generation: u64,
    /// What was committed when it was given.
    pub(super) committed: u64,
}

impl Member {
    pub(super) fn new(group: &str, slot: &str, topics: &[Topic]) -> Arc<Self> {
        Arc::new(Member {
            group: group.to_owned(),
            slot: slot.to_owned(),
            topics: topics.to_vec(),
            notify: Arc::default(),
            view: Mutex::default(),
        })
    }

    pub(super) fn view(&self) -> MutexGuard<'_, MemberView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut MemberView)) {
        {
            let mut view = self.view();
            change(&mut view);
            view.version += 1;
        }
        self.notify.notify_one();
    }
}

/// All groups of a log.
#[derive(Debug)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    release_timeout: Duration,
    generation: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// By slot, which is also the order of assignment.
    members: BTreeMap<String, Arc<Member>>,
    owner: BTreeMap<TopicPartition, Arc<Member>>,
    target: BTreeMap<TopicPartition, Arc<Member>>,
    release_by: Option<Instant>,
}

/// What `Groups` must ask for: how many partitions a topic has, and what a group has committed.
pub(super) trait Ground {
    fn partitions(&self, topic: Topic) -> u32;
    fn committed(&self, group: &str, of: TopicPartition) -> u64;
}

impl Groups {
    pub(super) fn new(release_timeout: Duration) -> Self {
        Groups { groups: HashMap::new(), release_timeout, generation: 0 }
    }

    /// Takes a member in; one that still holds its slot is out.
    pub(super) fn join(&mut self, member: &Arc<Member>, now: Instant, ground: &impl Ground) {
        let group = self.groups.entry(member.group.clone()).or_default();
        if let Some(old) = group.members.insert(member.slot.clone(), Arc::clone(member)) {
            group.disown(&old);
            fence(&old, "its slot was taken over");
        }
        group.assign(ground);
        self.settle(&member.group, now, ground);
    }

    /// Lets a member go.
    pub(super) fn leave(&mut self, member: &Arc<Member>, now: Instant, ground: &impl Ground) {
        let Some(group) = self.groups.get_mut(&member.group) else { return };
        if !group.members.get(&member.slot).is_some_and(|known| Arc::ptr_eq(known, member)) {
            return;
        }
        group.members.remove(&member.slot);
        group.disown(member);
        fence(member, "it left");
        group.assign(ground);
        self.settle(&member.group, now, ground);
        if self.groups.get(&member.group).is_some_and(|group| group.members.is_empty()) {
            self.groups.remove(&member.group);
        }
    }

    /// A member gives up what is meant for others.
    pub(super) fn release(&mut self, member: &Arc<Member>, now: Instant, ground: &impl Ground) {
        if let Some(group) = self.groups.get_mut(&member.group) {
            group.release(|owner| Arc::ptr_eq(owner, member));
            self.settle(&member.group, now, ground);
        }
    }

    /// Takes partitions from members that did not give them up in time.
    pub(super) fn expire(&mut self, now: Instant, ground: &impl Ground) {
        let late: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| group.release_by.is_some_and(|by| by <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            tracing::warn!(group = name, "a member did not poll in time, its partitions go to others");
            if let Some(group) = self.groups.get_mut(&name) {
                group.release(|_| true);
                self.settle(&name, now, ground);
            }
        }
    }

    /// Why a commit of these partitions by this member must not happen, if so.
    pub(super) fn refuse(&self, member: &Arc<Member>, next: &[(TopicPartition, u64, u64)]) -> Option<String> {
        let view = member.view();
        if let Some(reason) = &view.fenced {
            return Some(reason.clone());
        }
        next.iter()
            .find(|(of, _, generation)| {
                view.owned.get(of).is_none_or(|owned| owned.generation != *generation)
            })
            .map(|(of, _, _)| format!("{} partition {} is not its own any more", of.topic, of.partition))
    }

    /// Hands out what nobody owns and asks owners for what they must give up.
    fn settle(&mut self, name: &str, now: Instant, ground: &impl Ground) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let mut waiting = false;
        for (of, target) in &group.target {
            match group.owner.get(of) {
                Some(owner) if Arc::ptr_eq(owner, target) => {}
                Some(owner) => {
                    waiting = true;
                    owner.change(|view| view.must_release = true);
                }
                None => {
                    self.generation += 1;
                    let owned = Owned { generation: self.generation, committed: ground.committed(name, *of) };
                    group.owner.insert(*of, Arc::clone(target));
                    target.change(|view| {
                        view.owned.insert(*of, owned);
                    });
                }
            }
        }
        group.release_by = match (waiting, group.release_by) {
            (true, None) => Some(now + self.release_timeout),
            (true, by) => by,
            (false, _) => None,
        };
    }
}

impl Group {
    fn assign(&mut self, ground: &impl Ground) {
        let members: Vec<&Arc<Member>> = self.members.values().collect();
        let subscriptions: Vec<&[Topic]> = members.iter().map(|member| &member.topics[..]).collect();
        self.target = assign_ranges(&subscriptions, |topic| ground.partitions(topic))
            .into_iter()
            .map(|(of, member)| (of, Arc::clone(members[member])))
            .collect();
    }

    /// Takes everything from a member that is out.
    fn disown(&mut self, member: &Arc<Member>) {
        self.owner.retain(|_, owner| !Arc::ptr_eq(owner, member));
    }

    /// Takes from owners what is meant for others.
    fn release(&mut self, concerns: impl Fn(&Arc<Member>) -> bool) {
        let target = &self.target;
        self.owner.retain(|of, owner| {
            if !concerns(owner) {
                return true;
            }
            let keeps = target.get(of).is_some_and(|to| Arc::ptr_eq(to, owner));
            owner.change(|view| {
                view.must_release = false;
                if !keeps {
                    view.owned.remove(of);
                }
            });
            keeps
        });
    }
}

fn fence(member: &Member, why: &str) {
    member.change(|view| {
        view.owned.clear();
        view.must_release = false;
        view.fenced = Some(why.to_owned());
    });
}

/// Divides the partitions of each topic among its subscribers, in runs, the first members getting one more when it does
/// not divide evenly: Kafka's range assignment. Topics with the same count and subscribers are divided alike.
fn assign_ranges(
    subscriptions: &[&[Topic]],
    partitions: impl Fn(Topic) -> u32,
) -> BTreeMap<TopicPartition, usize> {
    let mut assignment = BTreeMap::new();
    for topic in Topic::ALL {
        let members: Vec<usize> =
            (0..subscriptions.len()).filter(|member| subscriptions[*member].contains(&topic)).collect();
        if members.is_empty() {
            continue;
        }
        let (count, among) = (partitions(topic) as usize, members.len());
        let mut partition = 0;
        for (rank, member) in members.into_iter().enumerate() {
            for _ in 0..count / among + usize::from(rank < count % among) {
                assignment.insert(TopicPartition { topic, partition }, member);
                partition += 1;
            }
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flat;
    impl Ground for Flat {
        fn partitions(&self, topic: Topic) -> u32 {
            if topic.single_partition() { 1 } else { 4 }
        }
        fn committed(&self, _: &str, _: TopicPartition) -> u64 {
            0
        }
    }

    fn numbers(member: &Member, topic: Topic) -> Vec<u32> {
        member.view().owned.keys().filter(|of| of.topic == topic).map(|of| of.partition).collect()
    }

    const TOPICS: [Topic; 2] = [Topic::Accepted, Topic::Commands];

    #[test]
    fn ranges_are_kafkas_and_alike_for_each_topic() {
        let subscribed: &[Topic] = &TOPICS;
        let assigned = assign_ranges(&[subscribed, subscribed, subscribed], |topic| Flat.partitions(topic));
        for topic in TOPICS {
            let of: Vec<usize> =
                (0..4).map(|partition| assigned[&TopicPartition { topic, partition }]).collect();
            assert_eq!(of, [0, 0, 1, 2]);
        }
        assert_eq!(assigned.len(), 8);
        assert!(assign_ranges(&[], |_| 4).is_empty());
        let more_members_than_partitions = assign_ranges(&[subscribed; 6], |_| 4);
        assert!(more_members_than_partitions.values().all(|member| *member < 4));
    }

    #[test]
    fn a_partition_moves_only_when_its_owner_lets_go() {
        let now = Instant::now();
        let mut groups = Groups::new(Duration::from_secs(10));
        let (first, second) = (Member::new("g", "a", &TOPICS), Member::new("g", "b", &TOPICS));
        groups.join(&first, now, &Flat);
        assert_eq!(numbers(&first, Topic::Accepted), [0, 1, 2, 3]);
        groups.join(&second, now, &Flat);
        assert!(numbers(&second, Topic::Accepted).is_empty());
        assert!(first.view().must_release);
        groups.release(&first, now, &Flat);
        for topic in TOPICS {
            assert_eq!(numbers(&first, topic), [0, 1]);
            assert_eq!(numbers(&second, topic), [2, 3]);
        }
        groups.leave(&first, now, &Flat);
        assert_eq!(numbers(&second, Topic::Commands), [0, 1, 2, 3]);
        assert!(first.view().fenced.is_some());
    }

    #[test]
    fn a_member_that_does_not_poll_loses_its_partitions() {
        let now = Instant::now();
        let mut groups = Groups::new(Duration::from_secs(10));
        let (first, second) = (Member::new("g", "a", &TOPICS), Member::new("g", "b", &TOPICS));
        groups.join(&first, now, &Flat);
        let of = TopicPartition { topic: Topic::Accepted, partition: 3 };
        let generation = first.view().owned[&of].generation;
        assert_eq!(groups.refuse(&first, &[(of, 5, generation)]), None);
        groups.join(&second, now, &Flat);
        groups.expire(now + Duration::from_secs(9), &Flat);
        assert!(numbers(&second, Topic::Accepted).is_empty());
        groups.expire(now + Duration::from_secs(10), &Flat);
        assert_eq!(numbers(&second, Topic::Accepted), [2, 3]);
        assert!(groups.refuse(&first, &[(of, 5, generation)]).is_some());
        groups.leave(&second, now, &Flat);
        // It came back: what was polled before it went is still not to be committed.
        assert!(groups.refuse(&first, &[(of, 5, generation)]).is_some());
        assert!(groups.refuse(&first, &[]).is_none());
    }

    #[test]
    fn a_slot_taken_over_fences_its_old_member_at_once() {
        let now = Instant::now();
        let mut groups = Groups::new(Duration::from_secs(10));
        let (old, new) = (Member::new("g", "a", &TOPICS), Member::new("g", "a", &TOPICS));
        groups.join(&old, now, &Flat);
        groups.join(&new, now, &Flat);
        assert_eq!(numbers(&new, Topic::Accepted), [0, 1, 2, 3]);
        assert!(groups.refuse(&old, &[]).is_some());
        groups.leave(&old, now, &Flat);
        assert_eq!(numbers(&new, Topic::Accepted), [0, 1, 2, 3], "a fenced member leaves nothing behind");
    }
}
