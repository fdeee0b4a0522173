//! What waits for the writer's thread.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use schemas::Position;
use schemas::topics::TopicPartition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::group::Member;
use crate::{LogError, NewRecord};

pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// Something for the writer to do, one after the other.
pub(super) enum Request {
    Append {
        records: Vec<NewRecord>,
        reply: Reply<Vec<Position>>,
        room: OwnedSemaphorePermit,
    },
    Commit {
        commit: Commit,
        reply: Reply<Vec<Position>>,
        room: OwnedSemaphorePermit,
    },
    Join {
        member: Arc<Member>,
        reply: Reply<()>,
    },
    /// The member gives up what is meant for others.
    Release {
        member: Arc<Member>,
        reply: Reply<()>,
    },
    Leave {
        member: Arc<Member>,
        reply: Option<Reply<()>>,
    },
    /// What the group of the member has committed, after every commit queued before.
    Committed {
        member: Arc<Member>,
        reply: Reply<Vec<(TopicPartition, u64)>>,
    },
    EnforceRetention {
        reply: Reply<()>,
    },
    Stage {
        into: PathBuf,
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// Outputs and offsets of a member, one step.
pub(super) struct Commit {
    pub(super) member: Arc<Member>,
    pub(super) outputs: Vec<NewRecord>,
    /// Partition, offset to go on from, generation under which it is owned.
    pub(super) next: Vec<(TopicPartition, u64, u64)>,
}

impl Request {
    /// Whether it may wait a little for something to be written along with. Whoever appends has a client that waits.
    fn can_linger(&self) -> bool {
        matches!(self, Request::Commit { .. })
    }
}

/// The bounded queue before the writer.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// Room for records, in units of `ROOM_UNIT` bytes.
    room: Arc<Semaphore>,
    capacity: u32,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

const ROOM_UNIT: usize = 1024;

impl Queue {
    pub(super) fn new(bytes: u64) -> Self {
        let units = (bytes / ROOM_UNIT as u64).clamp(1, Semaphore::MAX_PERMITS as u64 / 2);
        let capacity = u32::try_from(units).unwrap_or(u32::MAX);
        Queue {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
        }
    }

    /// Waits until there is room for `records`. What is larger than all the room there is takes all of it.
    pub(super) async fn room_for(&self, records: &[NewRecord]) -> Result<OwnedSemaphorePermit, LogError> {
        let units: usize = records.iter().map(|record| 1 + size(record) / ROOM_UNIT).sum();
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.capacity);
        Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| LogError::Closed)
    }

    pub(super) fn push(&self, request: Request) -> Result<(), LogError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(LogError::Closed);
        }
        // The writer knows already, unless this is what it waits for.
        let wakes = waiting.requests.is_empty() || !request.can_linger();
        waiting.requests.push_back(request);
        drop(waiting);
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, when there is something or after `timeout`; none when the queue is closed and empty. Where
    /// there are only commits, up to `linger` is waited for an append to share their fsync.
    pub(super) fn take(&self, timeout: Duration, linger: Duration) -> Option<VecDeque<Request>> {
        let wait = |waiting, timeout, goes_on: fn(&Waiting) -> bool| {
            let waited =
                self.filled.wait_timeout_while(waiting, timeout, |w: &mut Waiting| !w.closed && goes_on(w));
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = wait(waiting, timeout, |waiting| waiting.requests.is_empty());
        let mut waiting = wait(waiting, linger, |waiting| {
            !waiting.requests.is_empty() && waiting.requests.iter().all(Request::can_linger)
        });
        if waiting.closed && waiting.requests.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut waiting.requests))
    }

    /// Takes no more; what waits is still done.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.room.close();
        self.filled.notify_one();
    }
}

pub(super) fn size(record: &NewRecord) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len)
}
