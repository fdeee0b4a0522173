//! A consumer of the log on a task of its own, so that polling and committing never wait for one another.

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
    /// Commits; resolves when it is durable. An unavailable log is asked again until it is there: outputs are keyed by
    /// what they say, so that a commit whose fate was unknown may be repeated.
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
            Ok(Polled::Records(records)) => room.send(Event::Records(records)),
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

async fn commit(consumer: &mut dyn Consumer, request: Request) {
    let next = request.next.unwrap_or_else(|| consumer.positions());
    let result = loop {
        match consumer.commit(request.outputs.clone(), &next).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "a commit did not go through, trying again");
                tokio::time::sleep(AGAIN).await;
            }
            result => break result,
        }
    };
    // The worker may be stopping; what is committed is committed.
    let _ = request.done.send(result);
}
