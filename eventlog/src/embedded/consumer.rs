//! A member of a group, as its worker holds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::topics::TopicPartition;
use schemas::{Position, Topic};

use super::group::Member;
use super::queue::{Commit, Request};
use super::shared::Shared;
use crate::{Consumer, LogError, NewRecord, Polled};

pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    member: Arc<Member>,
    owned: BTreeMap<TopicPartition, Place>,
    /// The version of the membership that `owned` reflects.
    seen: u64,
    /// The partition polled last; the next one has its turn.
    turn: Option<TopicPartition>,
}

/// Where the consumer stands in a partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    generation: u64,
    committed: u64,
    position: u64,
}

impl EmbeddedConsumer {
    pub(super) async fn join(
        shared: Arc<Shared>,
        group: &str,
        slot: &str,
        topics: &[Topic],
    ) -> Result<Self, LogError> {
        let member = Member::new(group, slot, topics);
        shared.listen(places(&shared, topics), &member.notify);
        // From here on dropping it takes the member out again.
        let consumer = EmbeddedConsumer {
            shared: Arc::clone(&shared),
            member: Arc::clone(&member),
            owned: BTreeMap::new(),
            seen: 0,
            turn: None,
        };
        shared.ask(|reply| Request::Join { member, reply }).await?;
        Ok(consumer)
    }

    /// What changed about the assignment, first what was lost.
    async fn changes(&mut self) -> Result<Option<Polled>, LogError> {
        let must_release = {
            let view = self.member.view();
            if let Some(detail) = view.fenced.clone() {
                return Err(LogError::Fenced { group: self.member.group.clone(), detail });
            }
            if view.version == self.seen {
                return Ok(None);
            }
            view.must_release
        };
        if must_release {
            let member = Arc::clone(&self.member);
            self.shared.ask(|reply| Request::Release { member, reply }).await?;
        }
        let view = self.member.view();
        let stays = |of: &TopicPartition, place: &Place| {
            view.owned.get(of).is_some_and(|owned| owned.generation == place.generation)
        };
        let lost: Vec<TopicPartition> =
            self.owned.iter().filter(|(of, place)| !stays(of, place)).map(|(of, _)| *of).collect();
        if !lost.is_empty() {
            self.owned.retain(|of, _| !lost.contains(of));
            return Ok(Some(Polled::Revoked(lost)));
        }
        let mut gained = Vec::new();
        for (of, owned) in &view.owned {
            if !self.owned.contains_key(of) {
                let place = Place {
                    index: self.shared.layout.index(*of)?,
                    generation: owned.generation,
                    committed: owned.committed,
                    position: owned.committed,
                };
                self.owned.insert(*of, place);
                gained.push(*of);
            }
        }
        self.seen = view.version;
        Ok((!gained.is_empty()).then_some(Polled::Assigned(gained)))
    }

    /// Records of the owned partitions, each in its turn. Places move only at the end, when nothing is awaited any more:
    /// a poll that is cancelled has not passed over what it did not give.
    async fn fetch(&mut self, max: usize) -> Result<Option<Polled>, LogError> {
        let mut found = Vec::new();
        let mut moves = Vec::new();
        let mut turn = self.turn;
        for of in in_turn(&self.owned, self.turn) {
            let Some(place) = self.owned.get(&of) else { continue };
            let mut position = place.position;
            loop {
                let (records, next) = self.shared.fetch(place.index, position, max - found.len()).await?;
                let moved = next != position;
                position = next;
                let is_empty = records.is_empty();
                found.extend(records);
                // A gap without records is passed over at once.
                if !is_empty || !moved {
                    break;
                }
            }
            moves.push((of, position));
            if !found.is_empty() {
                turn = Some(of);
            }
            if found.len() >= max {
                break;
            }
        }
        for (of, position) in moves {
            if let Some(place) = self.owned.get_mut(&of) {
                place.position = position;
            }
        }
        self.turn = turn;
        Ok((!found.is_empty()).then_some(Polled::Records(found)))
    }

    async fn poll_once(&mut self, max: usize) -> Result<Option<Polled>, LogError> {
        self.shared.up()?;
        match self.changes().await? {
            Some(change) => Ok(Some(change)),
            None if max == 0 => Ok(None),
            None => self.fetch(max).await,
        }
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn poll(&mut self, max: usize, max_wait: Duration) -> Result<Polled, LogError> {
        let deadline = tokio::time::Instant::now() + max_wait;
        loop {
            if let Some(polled) = self.poll_once(max).await? {
                return Ok(polled);
            }
            if tokio::time::timeout_at(deadline, self.member.notify.notified()).await.is_err() {
                return Ok(Polled::Nothing);
            }
        }
    }

    async fn commit(
        &mut self,
        outputs: Vec<NewRecord>,
        next: &[(TopicPartition, u64)],
    ) -> Result<Vec<Position>, LogError> {
        outputs.iter().try_for_each(NewRecord::check_size)?;
        let not_owned = |of: &TopicPartition| LogError::Fenced {
            group: self.member.group.clone(),
            detail: format!("{} partition {} is not its own", of.topic, of.partition),
        };
        let owned = next
            .iter()
            .map(|(of, offset)| {
                let place = self.owned.get(of).ok_or_else(|| not_owned(of))?;
                Ok((*of, *offset, place.generation))
            })
            .collect::<Result<Vec<_>, LogError>>()?;
        let room = self.shared.queue.room_for(&outputs).await?;
        let commit = Commit { member: Arc::clone(&self.member), outputs, next: owned };
        let positions = self.shared.ask(|reply| Request::Commit { commit, reply, room }).await?;
        for (of, offset) in next {
            if let Some(place) = self.owned.get_mut(of) {
                place.committed = *offset;
            }
        }
        Ok(positions)
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        self.owned.iter().map(|(of, place)| (*of, place.committed)).collect()
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        let member = Arc::clone(&self.member);
        let offsets = self.shared.ask(|reply| Request::Committed { member, reply }).await?;
        if let Some(detail) = self.member.view().fenced.clone() {
            return Err(LogError::Fenced { group: self.member.group.clone(), detail });
        }
        for (of, committed) in offsets {
            if let Some(place) = self.owned.get_mut(&of) {
                place.committed = committed;
                place.position = committed;
            }
        }
        Ok(())
    }

    async fn leave(self: Box<Self>) {
        let member = Arc::clone(&self.member);
        // A closed log has no members.
        let _ = self.shared.ask(|reply| Request::Leave { member, reply: Some(reply) }).await;
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.shared.unlisten(places(&self.shared, &self.member.topics), &self.member.notify);
        // Fails only when the log is closed, and then nothing is left to leave.
        let _ = self.shared.queue.push(Request::Leave { member: Arc::clone(&self.member), reply: None });
    }
}

/// The places of all partitions of `topics`.
fn places(shared: &Shared, topics: &[Topic]) -> impl Iterator<Item = usize> {
    topics.iter().flat_map(move |topic| {
        (0..shared.layout.partitions(*topic))
            .filter_map(|partition| shared.layout.index(TopicPartition { topic: *topic, partition }).ok())
    })
}

/// The owned partitions, beginning after the one whose turn was last.
fn in_turn(owned: &BTreeMap<TopicPartition, Place>, last: Option<TopicPartition>) -> Vec<TopicPartition> {
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for of in owned.keys() {
        if last.is_some_and(|last| *of <= last) { then.push(*of) } else { first.push(*of) }
    }
    first.append(&mut then);
    first
}
