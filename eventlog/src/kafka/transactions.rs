//! Outputs and offsets as one step: the transactional producer of one slot, on a thread of its own because its calls block.
//!
//! Every commit of a member is one transaction that carries the member's offsets, so that the group's coordinator refuses
//! a member that lost its partitions, and the transaction coordinator one that lost its slot.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};
use rdkafka::{ClientConfig, TopicPartitionList};
use schemas::Position;
use tokio::sync::oneshot;

use super::clients::TRANSACTION_TIMEOUT;
use super::failure::{fenced, says_fenced, unavailable};
use super::outgoing::{Outgoing, is_full, positions};
use super::receipts::{Receipts, Reporting};
use crate::LogError;

/// For finding the coordinator, and for it to end what an earlier holder of the slot left open.
const INIT_TIMEOUT: Duration = Duration::from_secs(15);
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the reports of a transaction are looked for.
const LOOK: Duration = Duration::from_micros(500);
/// What librdkafka is given at least, near a deadline.
const SHORTEST_CALL: Duration = Duration::from_millis(1);
/// How often an idle producer is looked after.
const IDLE: Duration = Duration::from_secs(1);

type Native = BaseProducer<Reporting>;

/// The handle. Dropping it ends the thread, after what is under way.
pub(super) struct Transactions {
    requests: Sender<Request>,
}

enum Request {
    Renew { reply: oneshot::Sender<Result<(), LogError>> },
    Commit { commit: Commit, reply: oneshot::Sender<Result<Vec<Position>, LogError>> },
}

/// What one transaction carries.
pub(super) struct Commit {
    pub(super) outputs: Vec<Outgoing>,
    pub(super) offsets: TopicPartitionList,
    /// As of the member's assignment: a member that was given it anew since is another one.
    pub(super) member: Option<Arc<ConsumerGroupMetadata>>,
}

impl Transactions {
    /// Starts the thread; `renew` makes the producer.
    pub(super) fn start(config: ClientConfig, group: &str) -> Result<Self, LogError> {
        let (requests, taken) = channel();
        let slot = Slot { config, group: group.to_owned(), native: None };
        std::thread::Builder::new()
            .name("eventlog-commit".into())
            .spawn(move || slot.run(&taken))
            .map_err(|error| LogError::Unavailable(format!("the thread for commits: {error}")))?;
        Ok(Transactions { requests })
    }

    /// Takes the slot: fences whoever had it, and ends what it left open. Afterwards the fate of every earlier commit is
    /// settled.
    pub(super) async fn renew(&self) -> Result<(), LogError> {
        self.ask(|reply| Request::Renew { reply }).await
    }

    pub(super) async fn commit(&self, commit: Commit) -> Result<Vec<Position>, LogError> {
        self.ask(|reply| Request::Commit { commit, reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Request,
    ) -> Result<T, LogError> {
        let broke_off = || LogError::Unavailable("the thread for commits broke off".into());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| broke_off())?;
        answer.await.unwrap_or_else(|_| Err(broke_off()))
    }
}

/// Why a transaction did not come about.
enum Failure {
    /// It has to be aborted; then nothing was written.
    Abort(KafkaError),
    /// Another producer has the slot; nothing was written.
    Fenced(String),
    /// Only the next `renew` settles it.
    Unknown(String),
}

/// The thread's side.
struct Slot {
    config: ClientConfig,
    group: String,
    /// Absent before the first `renew`, and after a commit of unknown fate.
    native: Option<Native>,
}

impl Slot {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            // A member that is gone hears no answer.
            match requests.recv_timeout(IDLE) {
                Ok(Request::Renew { reply }) => drop(reply.send(self.renew())),
                Ok(Request::Commit { commit, reply }) => drop(reply.send(self.commit(&commit))),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(native) = &self.native {
                        native.poll(Duration::ZERO);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn renew(&mut self) -> Result<(), LogError> {
        self.native = None;
        let native: Native = self
            .config
            .create_with_context(Reporting)
            .map_err(|error| unavailable("the producer for commits cannot be made", &error))?;
        let taken = retried(Instant::now() + INIT_TIMEOUT, |left| native.init_transactions(left));
        taken.map_err(|error| unavailable("the slot cannot be taken", &error))?;
        self.native = Some(native);
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<Vec<Position>, LogError> {
        let Some(native) = &self.native else {
            return Err(LogError::Unavailable("the last commit is not settled yet, rewind first".into()));
        };
        let failure = match transact(native, commit) {
            Ok(positions) => return Ok(positions),
            Err(Failure::Abort(error)) => match abort(native) {
                Ok(()) if code(&error).is_some_and(says_fenced) => {
                    return Err(fenced(&self.group, error.to_string()));
                }
                Ok(()) => return Err(unavailable("a commit was aborted", &error)),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        self.native = None;
        Err(match failure {
            Failure::Fenced(detail) => fenced(&self.group, detail),
            Failure::Abort(error) => unavailable("a commit could not be aborted", &error),
            Failure::Unknown(detail) => {
                LogError::Unavailable(format!("a commit's fate is unknown: {detail}"))
            }
        })
    }
}

fn transact(native: &Native, commit: &Commit) -> Result<Vec<Position>, Failure> {
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    native.begin_transaction().map_err(|error| sorted(native, error))?;
    let receipts = Receipts::of(commit.outputs.len());
    send_all(native, &commit.outputs, &receipts, deadline)?;
    if let Some(member) = &commit.member {
        retried(deadline, |left| native.send_offsets_to_transaction(&commit.offsets, member, left))
            .map_err(|error| sorted(native, error))?;
    }
    // All reports are taken here: `commit_transaction` would look for them a tenth of a second apart.
    let offsets = loop {
        match receipts.offsets() {
            Some(Ok(offsets)) => break offsets,
            Some(Err(error)) => return Err(sorted(native, error)),
            None if Instant::now() >= deadline => {
                return Err(Failure::Unknown("the brokers did not answer in time".into()));
            }
            None => look(native),
        }
    };
    retried(deadline, |left| native.commit_transaction(left)).map_err(|error| {
        match sorted(native, error) {
            // It says whether to abort; everything else leaves open what the coordinator did.
            Failure::Abort(error) if !must_abort(&error) => Failure::Unknown(error.to_string()),
            other => other,
        }
    })?;
    Ok(positions(&commit.outputs, &offsets))
}

fn send_all(
    native: &Native,
    outputs: &[Outgoing],
    receipts: &Arc<Receipts>,
    deadline: Instant,
) -> Result<(), Failure> {
    for (number, output) in outputs.iter().enumerate() {
        let mut record = output.as_record(receipts.ticket(number));
        loop {
            match native.send(record) {
                Ok(()) => break,
                Err((error, refused)) if is_full(&error) && Instant::now() < deadline => {
                    look(native);
                    record = refused;
                }
                Err((error, _)) => return Err(sorted(native, error)),
            }
        }
    }
    Ok(())
}

/// Takes the reports that are there. A poll with a time-out of few milliseconds would spin until it is over: librdkafka counts
/// in whole ones.
fn look(native: &Native) {
    native.poll(Duration::ZERO);
    std::thread::park_timeout(LOOK);
}

/// Nothing of the transaction is seen by anybody afterwards.
fn abort(native: &Native) -> Result<(), Failure> {
    let deadline = Instant::now() + ABORT_TIMEOUT;
    // Reports that nobody took would keep `abort_transaction` waiting.
    native.purge(PurgeConfig::default().queue().inflight());
    while native.in_flight_count() > 0 && Instant::now() < deadline {
        look(native);
    }
    retried(deadline, |left| native.abort_transaction(left)).map_err(|error| match sorted(native, error) {
        Failure::Abort(error) => Failure::Unknown(error.to_string()),
        other => other,
    })
}

/// Calls again for as long as librdkafka says that it may, until the deadline.
fn retried(deadline: Instant, call: impl Fn(Duration) -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST_CALL);
        match call(left) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            other => return other,
        }
    }
}

fn sorted(native: &Native, error: KafkaError) -> Failure {
    if let Some((code, reason)) = native.client().fatal_error() {
        return if says_fenced(code) { Failure::Fenced(reason) } else { Failure::Unknown(reason) };
    }
    match &error {
        KafkaError::Transaction(inner) if inner.is_fatal() => Failure::Unknown(inner.string()),
        // Tried until the deadline.
        KafkaError::Transaction(inner) if inner.is_retriable() => Failure::Unknown(inner.string()),
        _ => Failure::Abort(error),
    }
}

fn must_abort(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(inner) if inner.txn_requires_abort())
}

fn code(error: &KafkaError) -> Option<rdkafka::types::RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(inner) => Some(inner.code()),
        other => other.rdkafka_error_code(),
    }
}
