//! A consumer of the log on a task of its own, so that polling and committing never wait for one another.

use std::collections::HashMap;
use std::time::Duration;

use eventlog::{Consumer, LogError, NewRecord, Polled, Record};
use schemas::Position;
use schemas::topics::TopicPartition;
use tokio::sync::{mpsc, oneshot};

/// Records of one poll.
const BATCH: usize = 256;
/// Before a commit of unknown fate is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// The other end of the task. Dropping it ends the task, which leaves the group.
pub(crate) struct Handle {
    pub events: mpsc::Receiver<Event>,
    commits: mpsc::Sender<Request>,
}

/// What the log has for us.
pub(crate) enum Event {
    Records(Vec<Record>),
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
    let (to_worker, events) = mpsc::channel(1);
    let (commits, requests) = mpsc::channel(4);
    tokio::spawn(run(consumer, to_worker, requests));
    Handle { events, commits }
}

impl Handle {
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

async fn run(
    mut consumer: Box<dyn Consumer>,
    events: mpsc::Sender<Event>,
    mut requests: mpsc::Receiver<Request>,
) {
    // The offset after what the worker was given: after a `rewind` it does not get it again.
    let mut given: HashMap<TopicPartition, u64> = HashMap::new();
    loop {
        let room = tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => { commit(&mut *consumer, request).await; continue }
                None => break,
            },
            room = events.reserve() => match room { Ok(room) => room, Err(_) => break },
        };
        let polled = tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => { commit(&mut *consumer, request).await; continue }
                None => break,
            },
            polled = consumer.poll(BATCH, Duration::from_secs(1)) => polled,
        };
        match polled {
            Ok(Polled::Records(mut records)) => {
                records.retain(|record| is_new(&mut given, record.position));
                if !records.is_empty() {
                    room.send(Event::Records(records));
                }
            }
            Ok(_) => {}
            Err(error) if error.is_transient() => {
                drop(room);
                tracing::warn!(%error, "the log cannot be read, trying again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                room.send(Event::Lost(error));
                return;
            }
        }
    }
    consumer.leave().await;
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
