//! A member of a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::topics::TopicPartition;
use schemas::{Position, Topic};
use tokio::sync::{Notify, oneshot};

use super::group::{MemberId, Standing};
use super::locked;
use super::store::Shared;
use super::writer::{Commit, Request, Writer};
use crate::{Consumer, LogError, NewRecord, Polled, Record};

pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    writer: Writer,
    group: String,
    slot: String,
    id: MemberId,
    generation: u64,
    owned: BTreeMap<TopicPartition, Progress>,
    /// Gained together with a loss, and not told yet.
    gained: Vec<TopicPartition>,
    wake: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Progress {
    /// Offset to poll next.
    next: u64,
    committed: u64,
}

impl EmbeddedConsumer {
    pub(super) async fn join(
        shared: &Arc<Shared>,
        writer: &Writer,
        group: &str,
        slot: &str,
        topics: &[Topic],
    ) -> Result<Self, LogError> {
        let wake = Arc::new(Notify::new());
        shared.register(topics, &wake);
        let (done, joined) = oneshot::channel();
        let request = Request::Join {
            group: group.to_owned(),
            slot: slot.to_owned(),
            topics: topics.to_vec(),
            wake: Arc::clone(&wake),
            done,
        };
        writer.send(request).await?;
        let id = joined.await.map_err(|_| LogError::Closed)?;
        Ok(EmbeddedConsumer {
            shared: Arc::clone(shared),
            writer: writer.clone(),
            group: group.to_owned(),
            slot: slot.to_owned(),
            id,
            generation: 0,
            owned: BTreeMap::new(),
            gained: Vec::new(),
            wake,
        })
    }

    fn fenced(&self) -> LogError {
        LogError::Fenced {
            group: self.group.clone(),
            detail: format!("slot `{}` was taken by another member", self.slot),
        }
    }

    fn committed(&self, at: TopicPartition) -> Result<u64, LogError> {
        let store = self.shared.store()?;
        let committed = locked(&store.committed);
        Ok(committed.get(&(self.group.clone(), at.topic, at.partition)).copied().unwrap_or(0))
    }

    /// What changed about the assignment, if anything.
    fn assignment(&mut self) -> Result<Option<Polled>, LogError> {
        if !self.gained.is_empty() {
            return Ok(Some(Polled::Assigned(std::mem::take(&mut self.gained))));
        }
        let standing = locked(&self.shared.groups).standing(&self.group, self.id, self.generation);
        let (generation, owned) = match standing {
            Standing::Same => return Ok(None),
            Standing::Gone => return Err(self.fenced()),
            Standing::Changed { generation, owned } => (generation, owned),
        };
        // A generation that was never seen may have given a partition away and back: start afresh.
        let missed_one = self.generation != 0 && generation > self.generation + 1;
        let kept = |at: &TopicPartition| !missed_one && owned.contains(at);
        let lost: Vec<_> = self.owned.keys().filter(|at| !kept(at)).copied().collect();
        let gained: Vec<_> =
            owned.iter().filter(|at| missed_one || !self.owned.contains_key(at)).copied().collect();
        let mut progress = Vec::with_capacity(gained.len());
        for at in &gained {
            let committed = self.committed(*at)?;
            progress.push((*at, Progress { next: committed, committed }));
        }
        self.owned.retain(|at, _| !lost.contains(at));
        self.owned.extend(progress);
        self.generation = generation;
        if !lost.is_empty() {
            self.gained = gained;
            return Ok(Some(Polled::Revoked(lost)));
        }
        Ok((!gained.is_empty()).then_some(Polled::Assigned(gained)))
    }

    async fn fetch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        let mut cursors = Vec::new();
        let owned: Vec<_> = self.owned.iter().map(|(at, progress)| (*at, progress.next)).collect();
        for (at, next) in owned {
            if records.len() >= max {
                break;
            }
            let (found, cursor) =
                self.shared.read_on(at.topic, at.partition, next, max - records.len()).await?;
            cursors.push((at, cursor));
            records.extend(found);
        }
        // Nothing is awaited from here on: a cancelled poll has not passed over what it did not give.
        for (at, cursor) in cursors {
            if let Some(progress) = self.owned.get_mut(&at) {
                progress.next = cursor;
            }
        }
        Ok(records)
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn poll(&mut self, max: usize, max_wait: Duration) -> Result<Polled, LogError> {
        let deadline = tokio::time::Instant::now() + max_wait;
        loop {
            if let Some(change) = self.assignment()? {
                return Ok(change);
            }
            let records = self.fetch(max).await?;
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            if tokio::time::timeout_at(deadline, self.wake.notified()).await.is_err() {
                return Ok(Polled::Nothing);
            }
        }
    }

    async fn commit(
        &mut self,
        outputs: Vec<NewRecord>,
        next: &[(TopicPartition, u64)],
    ) -> Result<Vec<Position>, LogError> {
        let commit = Commit { group: self.group.clone(), member: self.id, next: next.to_vec() };
        let positions = self.writer.write(outputs, Some(commit)).await?;
        for (at, offset) in next {
            if let Some(progress) = self.owned.get_mut(at) {
                progress.committed = *offset;
            }
        }
        Ok(positions)
    }

    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        self.owned.iter().map(|(at, progress)| (*at, progress.committed)).collect()
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        if matches!(
            locked(&self.shared.groups).standing(&self.group, self.id, self.generation),
            Standing::Gone
        ) {
            return Err(self.fenced());
        }
        for at in self.owned.keys().copied().collect::<Vec<_>>() {
            let committed = self.committed(at)?;
            self.owned.insert(at, Progress { next: committed, committed });
        }
        Ok(())
    }

    async fn leave(self: Box<Self>) {
        // A closed log has no members.
        let _ = self.writer.send(Request::Leave { group: self.group.clone(), id: self.id }).await;
        // Dropping asks to leave again, which changes nothing.
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.writer.try_send(Request::Leave { group: std::mem::take(&mut self.group), id: self.id });
    }
}
