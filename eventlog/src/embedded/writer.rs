//! The one thread that writes: it gathers what waits, commits it as one batch with one fsync, then publishes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fjall::PersistMode;
use schemas::topics::{Retention, TopicPartition};
use schemas::{Position, Topic};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::group::MemberId;
use super::store::{Epoch, Shared, Store, offset_key, small_options, u64_of, unavailable};
use super::{codec, locked, retention};
use crate::{LogError, NewRecord, Partitioning, Record, log::partition_of};

/// Requests that may wait.
const MAX_WAITING: usize = 8192;
/// A batch ends at this many records ...
const BATCH_RECORDS: usize = 2048;
/// ... or at this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Between two tries to open a failed store again; grows to the second.
const REOPEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What the thread is asked to do.
pub(super) enum Request {
    Write(Write),
    Join {
        group: String,
        slot: String,
        topics: Vec<Topic>,
        wake: Arc<Notify>,
        done: oneshot::Sender<MemberId>,
    },
    Leave {
        group: String,
        id: MemberId,
    },
    EnforceRetention {
        done: oneshot::Sender<Result<(), LogError>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

pub(super) struct Write {
    records: Vec<NewRecord>,
    commit: Option<Commit>,
    done: oneshot::Sender<Result<Vec<Position>, LogError>>,
    _room: OwnedSemaphorePermit,
}

/// The offsets that move with the records of a write.
pub(super) struct Commit {
    pub group: String,
    pub member: MemberId,
    pub next: Vec<(TopicPartition, u64)>,
}

/// A handle of the thread.
#[derive(Clone)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    max_room: u32,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, LogError> {
        let (requests, incoming) = mpsc::channel(MAX_WAITING);
        let max_room = u32::try_from(shared.config.max_waiting_bytes / 1024).unwrap_or(u32::MAX).max(2048);
        std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || run(&shared, incoming))
            .map_err(|error| unavailable(format!("the log's writer cannot start: {error}")))?;
        Ok(Writer { requests, room: Arc::new(Semaphore::new(max_room as usize)), max_room })
    }

    /// Resolves when the records, and the offsets with them, are durable.
    pub(super) async fn write(
        &self,
        records: Vec<NewRecord>,
        commit: Option<Commit>,
    ) -> Result<Vec<Position>, LogError> {
        let mut bytes = 0;
        for record in &records {
            record.check_size()?;
            bytes += record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
        }
        let room = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.max_room);
        let room = Arc::clone(&self.room).acquire_many_owned(room).await.map_err(|_| LogError::Closed)?;
        let (done, written) = oneshot::channel();
        self.send(Request::Write(Write { records, commit, done, _room: room })).await?;
        written.await.map_err(|_| LogError::Closed)?
    }

    pub(super) async fn send(&self, request: Request) -> Result<(), LogError> {
        self.requests.send(request).await.map_err(|_| LogError::Closed)
    }

    /// For `Drop`: a full queue means that the leaving member is noticed when its slot joins again.
    pub(super) fn try_send(&self, request: Request) {
        let _ = self.requests.try_send(request);
    }
}

fn run(shared: &Shared, mut incoming: mpsc::Receiver<Request>) {
    while let Some(first) = incoming.blocking_recv() {
        let mut writes = Vec::new();
        let mut next = Some(first);
        let (mut records, mut bytes) = (0, 0);
        // Gather writes until something else, or the batch is full, or nothing waits.
        while let Some(Request::Write(write)) = next.take_if(|request| matches!(request, Request::Write(_))) {
            records += write.records.len();
            bytes += write.records.iter().filter_map(|r| r.value.as_ref()).map(Bytes::len).sum::<usize>();
            writes.push(write);
            if records >= BATCH_RECORDS || bytes >= BATCH_BYTES {
                break;
            }
            next = incoming.try_recv().ok();
        }
        if !writes.is_empty() {
            write_batch(shared, writes);
        }
        match next {
            Some(Request::Close { done }) => {
                finish(shared);
                drop(incoming);
                // Whoever closed may have gone.
                let _ = done.send(());
                return;
            }
            Some(request) => control(shared, request),
            None => {}
        }
    }
    finish(shared);
}

fn finish(shared: &Shared) {
    if let Ok(store) = shared.store()
        && let Err(error) = store.db.persist(PersistMode::SyncAll)
    {
        tracing::error!(?error, "the log could not be synced while closing");
    }
    shared.close();
}

fn control(shared: &Shared, request: Request) {
    let partitions = |topic| shared.config.partitions_of(topic);
    match request {
        Request::Join { group, slot, topics, wake, done } => {
            let id = locked(&shared.groups).join(&group, &slot, &topics, wake, partitions);
            if done.send(id).is_err() {
                locked(&shared.groups).leave(&group, id, partitions);
            }
        }
        Request::Leave { group, id } => locked(&shared.groups).leave(&group, id, partitions),
        Request::EnforceRetention { done } => {
            let result = shared.store().and_then(|store| retention::drop_old(&store, shared.clock.now()));
            let _ = done.send(result);
        }
        Request::Write(_) | Request::Close { .. } => {} // handled by the caller
    }
}

fn write_batch(shared: &Shared, writes: Vec<Write>) {
    let (commits, results): (Vec<_>, Vec<_>) =
        writes.into_iter().map(|w| ((w.records, w.commit), (w.done, w._room))).unzip();
    match shared.store().and_then(|store| commit(shared, &store, commits)) {
        Ok(outcomes) => {
            for ((done, _room), outcome) in results.into_iter().zip(outcomes) {
                // Whoever waited may have gone; the records are durable all the same.
                let _ = done.send(outcome);
            }
        }
        Err(error) => {
            let fatal = error.is_transient();
            for (done, _room) in results {
                let _ = done.send(Err(error.clone()));
            }
            if fatal {
                tracing::error!(%error, "a write to the log failed: it is closed and opened again");
                shared.fail(&error);
                reopen(shared);
            }
        }
    }
}

/// Tries until the store is open again; meanwhile every call is answered `Unavailable` without coming here.
fn reopen(shared: &Shared) {
    let (mut delay, longest) = REOPEN;
    loop {
        // The thread has nothing else to do: every request in its queue needs an open store.
        std::thread::park_timeout(delay);
        match shared.reopen() {
            Ok(()) => {
                tracing::info!("the log is open again");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the log cannot be opened yet");
                shared.fail(&error);
            }
        }
        delay = (delay * 2).min(longest);
    }
}

/// What a batch has given out so far.
struct Batch<'a> {
    store: &'a Store,
    shared: &'a Shared,
    batch: fjall::OwnedWriteBatch,
    ends: HashMap<(Topic, u32), u64>,
    published: HashMap<(Topic, u32), Vec<Record>>,
    /// Keys of compacted topics written in this batch: their newest offset.
    newest: HashMap<(Topic, u32, Bytes), u64>,
}

type Outcomes = Vec<Result<Vec<Position>, LogError>>;

fn commit(
    shared: &Shared,
    store: &Store,
    writes: Vec<(Vec<NewRecord>, Option<Commit>)>,
) -> Result<Outcomes, LogError> {
    let mut batch = Batch {
        store,
        shared,
        batch: store.db.batch().durability(Some(PersistMode::SyncData)),
        ends: HashMap::new(),
        published: HashMap::new(),
        newest: HashMap::new(),
    };
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut moved = Vec::new();
    for (records, commit) in writes {
        outcomes.push(batch.add(records, commit, &mut moved)?);
    }
    batch.batch.commit().map_err(|error| unavailable(format!("{error:?}")))?;
    {
        let mut committed = locked(&store.committed);
        committed.extend(moved);
    }
    let mut topics: Vec<Topic> = Vec::new();
    for ((topic, number), records) in batch.published {
        store.partition(topic, number)?.publish(records);
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    topics.into_iter().for_each(|topic| shared.wake(topic));
    Ok(outcomes)
}

type Moved = Vec<((String, Topic, u32), u64)>;

impl Batch<'_> {
    /// Adds one write. The outer error ends the whole batch, the inner one only concerns this write, which then left no trace.
    fn add(
        &mut self,
        records: Vec<NewRecord>,
        commit: Option<Commit>,
        moved: &mut Moved,
    ) -> Result<Result<Vec<Position>, LogError>, LogError> {
        if let Some(commit) = &commit
            && let Err(fenced) =
                locked(&self.shared.groups).check_owner(&commit.group, commit.member, &commit.next)
        {
            return Ok(Err(fenced));
        }
        let mut places = Vec::with_capacity(records.len());
        for record in &records {
            let partition = self.place(record);
            if let Err(error) = self.shared.check_partition(record.topic, partition) {
                return Ok(Err(error));
            }
            places.push(partition);
        }
        let mut positions = Vec::with_capacity(records.len());
        for (record, partition) in records.into_iter().zip(places) {
            positions.push(self.record(record, partition)?);
        }
        for (at, offset) in commit.iter().flat_map(|commit| &commit.next) {
            let group = commit.as_ref().map(|c| c.group.clone()).unwrap_or_default();
            self.batch.insert(
                &self.store.meta,
                offset_key(&group, at.topic, at.partition),
                offset.to_be_bytes(),
            );
            moved.push(((group, at.topic, at.partition), *offset));
        }
        Ok(Ok(positions))
    }

    fn place(&self, record: &NewRecord) -> u32 {
        match &record.partitioning {
            Partitioning::Partition(partition) => *partition,
            Partitioning::By(key) => partition_of(key, self.shared.config.partitions_of(record.topic)),
        }
    }

    fn record(&mut self, record: NewRecord, number: u32) -> Result<Position, LogError> {
        let now = self.shared.clock.now();
        let topic = record.topic;
        let partition = self.store.partition(topic, number)?;
        let end = self.ends.entry((topic, number)).or_insert_with(|| partition.end());
        let offset = *end;
        *end += 1;
        let epoch = retention::current_epoch(self.store, &mut self.batch, topic, number, offset, now)?;
        let position = Position { topic, partition: number, offset };
        let stored = codec::encode(&record.key, record.value.as_deref(), now);
        let decoded = codec::decode(position, &stored)?;
        if topic.retention() == Retention::Compacted {
            self.replace_older(topic, number, &record.key, offset, &epoch)?;
        }
        self.batch.insert(&epoch.keyspace, offset.to_be_bytes(), stored);
        self.published.entry((topic, number)).or_default().push(decoded);
        Ok(position)
    }

    /// Removes the record that this one replaces, and makes the index point here.
    fn replace_older(
        &mut self,
        topic: Topic,
        number: u32,
        key: &Bytes,
        offset: u64,
        epoch: &Epoch,
    ) -> Result<(), LogError> {
        let partition = self.store.partition(topic, number)?;
        let index = partition.index.as_ref().ok_or_else(|| unavailable("a compacted topic has no index"))?;
        let mut index = locked(index);
        if index.is_none() {
            let name = super::store::index_name(topic, number);
            *index = Some(self.store.db.keyspace(&name, small_options).map_err(unavailable)?);
        }
        let Some(index) = index.as_ref() else { return Err(unavailable("a compacted topic has no index")) };
        let older = match self.newest.insert((topic, number, key.clone()), offset) {
            Some(older) => Some(older),
            None => index.get(key).map_err(unavailable)?.and_then(|value| u64_of(&value)),
        };
        if let Some(older) = older {
            self.batch.remove(&epoch.keyspace, older.to_be_bytes());
        }
        self.batch.insert(index, key.clone(), offset.to_be_bytes());
        Ok(())
    }
}
