//! A consumer of the log on a task of its own, so that polling and committing never wait for one another.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eventlog::{Consumer, LogError, NewRecord, Polled, Record};
use schemas::Position;
use schemas::topics::TopicPartition;
use tokio::sync::{Notify, mpsc, oneshot};

/// Records of one poll.
const BATCH: usize = 256;
/// How often a consumer whose records wait for room looks whether it still owns them.
const LOOK: Duration = Duration::from_millis(200);
/// Before a commit of unknown fate is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// The other end of the task. Dropping it ends the task, which leaves the group.
pub(crate) struct Handle {
    events: Arc<Events>,
    commits: mpsc::Sender<Request>,
}

/// What waits for the worker: at most one batch of records, and what happened to it since. Both ends reach it, so that
/// records of a partition that was lost are taken out again before the worker has room for them.
#[derive(Default)]
struct Events {
    waiting: Mutex<VecDeque<Event>>,
    arrived: Notify,
    taken: Notify,
}

/// What the log has for us.
pub(crate) enum Event {
    Records(Vec<Record>),
    /// Somebody else takes what of these partitions is not committed.
    Revoked(Vec<TopicPartition>),
    /// The consumer is of no more use.
    Lost(LogError),
}

struct Request {
    outputs: Vec<NewRecord>,
    /// None: the offsets as they are; only a timer fired.
    next: Option<Vec<(TopicPartition, u64)>>,
    done: oneshot::Sender<Result<Vec<Position>, LogError>>,
}

/// Starts the task.
pub(crate) fn start(consumer: Box<dyn Consumer>) -> Handle {
    let events = Arc::new(Events::default());
    let (commits, requests) = mpsc::channel(4);
    tokio::spawn(run(consumer, Arc::clone(&events), requests));
    Handle { events, commits }
}

impl Handle {
    /// The next event. Safe to cancel.
    pub(crate) async fn next(&self) -> Event {
        self.events.next().await
    }

    /// Records that wait for the worker.
    pub(crate) fn waiting(&self) -> usize {
        let count = |event: &Event| if let Event::Records(records) = event { records.len() } else { 0 };
        self.events.waiting().iter().map(count).sum()
    }

    /// Commits; resolves when it is durable. An unavailable log is asked again until it is there. A commit that moved
    /// offsets is not made twice: the offsets tell whether it went through (then no positions are known). One that moved
    /// none may be, and its outputs must bear that: events and entries are known by their ids and keys, copies are inert,
    /// and of mail of our own only the first is taken.
    pub(crate) async fn commit(
        &self,
        outputs: Vec<NewRecord>,
        next: Option<Vec<(TopicPartition, u64)>>,
    ) -> Result<Vec<Position>, LogError> {
        let (done, committed) = oneshot::channel();
        self.commits.send(Request { outputs, next, done }).await.map_err(|_| LogError::Closed)?;
        committed.await.map_err(|_| LogError::Closed)?
    }
}

async fn run(mut consumer: Box<dyn Consumer>, events: Arc<Events>, mut requests: mpsc::Receiver<Request>) {
    // The offset after what the worker was given: after a `rewind` it does not get it again.
    let mut given: HashMap<TopicPartition, u64> = HashMap::new();
    loop {
        let is_full = events.is_waiting();
        let (max, wait) = if is_full { (0, LOOK) } else { (BATCH, Duration::from_secs(1)) };
        let polled = tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => { commit(&mut *consumer, request).await; continue }
                None => break,
            },
            () = events.taken.notified(), if is_full => continue,
            polled = consumer.poll(max, wait) => polled,
        };
        match polled {
            Ok(Polled::Records(mut records)) => {
                records.retain(|record| is_new(&mut given, record.position));
                if !records.is_empty() {
                    events.push(Event::Records(records));
                }
            }
            Ok(Polled::Revoked(lost)) => {
                given.retain(|of, _| !lost.contains(of));
                events.revoke(lost);
            }
            Ok(Polled::Assigned(_) | Polled::Nothing) => {}
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the log cannot be read, trying again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                events.push(Event::Lost(error.clone()));
                // Whatever is still to be committed is told the same.
                while let Some(request) = requests.recv().await {
                    let _ = request.done.send(Err(error.clone()));
                }
                return;
            }
        }
    }
    consumer.leave().await;
}

impl Events {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    fn push(&self, event: Event) {
        self.waiting().push_back(event);
        self.arrived.notify_one();
    }

    async fn next(&self) -> Event {
        loop {
            let next = self.waiting().pop_front();
            if let Some(event) = next {
                self.taken.notify_one();
                return event;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the records of these partitions out again, and tells that they are lost.
    fn revoke(&self, lost: Vec<TopicPartition>) {
        let mut waiting = self.waiting();
        for event in waiting.iter_mut() {
            if let Event::Records(records) = event {
                records.retain(|record| !lost.contains(&record.position.topic_partition()));
            }
        }
        match waiting.back_mut() {
            Some(Event::Revoked(before)) => before.extend(lost),
            _ => waiting.push_back(Event::Revoked(lost)),
        }
        self.arrived.notify_one();
    }
}

fn is_new(given: &mut HashMap<TopicPartition, u64>, position: Position) -> bool {
    let next = given.entry(position.topic_partition()).or_default();
    let is_new = position.offset >= *next;
    *next = (*next).max(position.offset + 1);
    is_new
}

async fn commit(consumer: &mut dyn Consumer, request: Request) {
    let before = consumer.positions();
    let next = request.next.unwrap_or_else(|| before.clone());
    let moves = next.iter().any(|place| !before.contains(place));
    let result = loop {
        match consumer.commit(request.outputs.clone(), &next).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the fate of a commit is unknown");
                if let Err(error) = read_offsets_again(consumer).await {
                    break Err(error);
                }
                let now = consumer.positions();
                if moves && next.iter().all(|place| now.contains(place)) {
                    break Ok(Vec::new());
                }
            }
            result => break result,
        }
    };
    // The worker may be stopping; what is committed is committed.
    let _ = request.done.send(result);
}

/// Waits until the log says what was committed.
async fn read_offsets_again(consumer: &mut dyn Consumer) -> Result<(), LogError> {
    loop {
        tokio::time::sleep(AGAIN).await;
        match consumer.rewind().await {
            Err(error) if error.is_transient() => {}
            result => return result,
        }
    }
}
