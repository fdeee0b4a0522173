//! Where a record lies: keyspaces by topic, partition and epoch; the rings of recent records; ends and offsets.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use schemas::topics::Retention;
use schemas::{Position, Timestamp, Topic};
use tokio::sync::Notify;

use super::{EmbeddedConfig, SharedGroups, codec, locked, space::Space};
use crate::{Clock, LogError, Record};

/// A ring keeps at most this many of a partition's newest records ...
const RING_RECORDS: usize = 2048;
/// ... and at most this many bytes of them.
const RING_BYTES: usize = 3 << 20;
/// One read gives about this many bytes at most.
const READ_BYTES: usize = 4 << 20;
const MEMTABLE_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES: u64 = 256 << 20;
/// Values from this size on lie beside the tree, where compaction leaves them alone.
const SEPARATION_BYTES: u32 = 2048;

/// What the engine's parts share. The store inside is replaced when a failed write made it close.
pub(super) struct Shared {
    pub config: EmbeddedConfig,
    pub clock: Arc<dyn Clock>,
    pub groups: SharedGroups,
    state: RwLock<State>,
    waiters: Mutex<HashMap<Topic, Vec<Weak<Notify>>>>,
    space: Space,
}

enum State {
    Open(Arc<Store>),
    Failed(String),
    Closed,
}

/// An open database and what is remembered of it.
pub(super) struct Store {
    pub db: Database,
    pub meta: Keyspace,
    partitions: HashMap<(Topic, u32), Partition>,
    pub committed: Mutex<HashMap<(String, Topic, u32), u64>>,
}

/// One partition.
pub(super) struct Partition {
    pub epochs: RwLock<Vec<Epoch>>,
    /// Offset that the next record gets; everything below is durable.
    end: AtomicU64,
    ring: Mutex<Ring>,
    /// Compacted topics only: key to offset of its newest record.
    pub index: Option<Mutex<Option<Keyspace>>>,
}

/// A keyspace of a partition; time-kept topics have several, dropped whole when their time is over.
#[derive(Clone)]
pub(super) struct Epoch {
    pub number: u64,
    pub base_offset: u64,
    pub created_at: Timestamp,
    pub keyspace: Keyspace,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    bytes: usize,
}

pub(super) fn unavailable(error: impl std::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

impl Shared {
    pub(super) fn open(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let store = Store::open(&config)?;
        Ok(Shared {
            space: Space::new(&config.directory),
            config,
            clock,
            groups: SharedGroups::default(),
            state: RwLock::new(State::Open(Arc::new(store))),
            waiters: Mutex::default(),
        })
    }

    pub(super) fn store(&self) -> Result<Arc<Store>, LogError> {
        match &*self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner) {
            State::Open(store) => Ok(Arc::clone(store)),
            State::Failed(why) => Err(LogError::Unavailable(why.clone())),
            State::Closed => Err(LogError::Closed),
        }
    }

    fn set_state(&self, state: State) {
        *self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
        self.wake_all();
    }

    pub(super) fn fail(&self, why: &LogError) {
        self.set_state(State::Failed(why.to_string()));
    }

    pub(super) fn close(&self) {
        self.set_state(State::Closed);
    }

    /// Opens the store again after `fail`.
    pub(super) fn reopen(&self) -> Result<(), LogError> {
        let store = Store::open(&self.config)?;
        self.set_state(State::Open(Arc::new(store)));
        Ok(())
    }

    pub(super) fn accepting(&self) -> Result<(), LogError> {
        self.store()?;
        let free = self.space.free_bytes(&self.config.directory);
        if free < self.config.min_free_bytes {
            return Err(LogError::Unavailable(format!(
                "{free} bytes are free under {}, no mail is taken in below {}",
                self.config.directory.display(),
                self.config.min_free_bytes
            )));
        }
        Ok(())
    }

    pub(super) fn check_partition(&self, topic: Topic, partition: u32) -> Result<(), LogError> {
        let partitions = self.config.partitions_of(topic);
        if partition < partitions {
            Ok(())
        } else {
            Err(LogError::NoSuchPartition { topic, partition, partitions })
        }
    }

    /// Registers a reader of `topics`; it is woken after each batch that wrote to one of them.
    pub(super) fn register(&self, topics: &[Topic], wake: &Arc<Notify>) {
        let mut waiters = locked(&self.waiters);
        for topic in topics {
            let list = waiters.entry(*topic).or_default();
            list.retain(|waiter| waiter.strong_count() > 0);
            list.push(Arc::downgrade(wake));
        }
    }

    pub(super) fn wake(&self, topic: Topic) {
        if let Some(list) = locked(&self.waiters).get(&topic) {
            list.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.notify_one());
        }
    }

    fn wake_all(&self) {
        for topic in Topic::ALL {
            self.wake(topic);
        }
    }

    pub(super) fn read_at(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.store()?.read_at(position)
    }
}

impl Shared {
    /// Reads on in a partition: recent records from memory, older ones from disk on a thread that may block.
    pub(super) async fn read_on(
        self: &Arc<Self>,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
    ) -> Result<(Vec<Record>, u64), LogError> {
        if let Some(found) = self.store()?.read_recent(topic, partition, from, max)? {
            return Ok(found);
        }
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || shared.store()?.read_stored(topic, partition, from, max))
            .await
            .map_err(|error| LogError::Unavailable(error.to_string()))?
    }
}

impl Store {
    fn open(config: &EmbeddedConfig) -> Result<Self, LogError> {
        std::fs::create_dir_all(&config.directory)
            .map_err(|error| unavailable(format!("{}: {error}", config.directory.display())))?;
        let db = open_database(&config.directory)?;
        let meta = db.keyspace("meta", || small_options()).map_err(unavailable)?;
        check_partition_count(&db, &meta, config)?;
        let mut partitions = HashMap::new();
        for topic in Topic::ALL {
            for partition in 0..config.partitions_of(topic) {
                partitions.insert((topic, partition), Partition::open(&db, &meta, topic, partition)?);
            }
        }
        let committed = read_committed(&meta)?;
        Ok(Store { db, meta, partitions, committed: Mutex::new(committed) })
    }

    pub(super) fn partition(&self, topic: Topic, partition: u32) -> Result<&Partition, LogError> {
        self.partitions.get(&(topic, partition)).ok_or(LogError::NoSuchPartition {
            topic,
            partition,
            partitions: 0,
        })
    }

    pub(super) fn end(&self, topic: Topic, partition: u32) -> u64 {
        self.partitions.get(&(topic, partition)).map_or(0, Partition::end)
    }

    /// The first offset that may still be kept.
    pub(super) fn start(&self, topic: Topic, partition: u32) -> u64 {
        let first = |p: &Partition| read_epochs(p).first().map(|epoch| epoch.base_offset);
        self.partitions.get(&(topic, partition)).and_then(first).unwrap_or(0)
    }

    pub(super) fn read_at(&self, position: Position) -> Result<Option<Record>, LogError> {
        let partition = self.partition(position.topic, position.partition)?;
        if position.offset >= partition.end() {
            return Ok(None);
        }
        if let Some(record) = locked(&partition.ring).at(position.offset) {
            return Ok(Some(record));
        }
        let Some(epoch) = epoch_of(&read_epochs(partition), position.offset).cloned() else {
            return Ok(None);
        };
        let stored = epoch.keyspace.get(position.offset.to_be_bytes()).map_err(unavailable)?;
        stored.map(|stored| codec::decode(position, &Bytes::from(stored))).transpose()
    }

    /// Up to `max` durable records from `from` on (and about 4 MiB at most), in order, and the offset to go on from.
    /// `None`: they must be read from disk.
    fn read_recent(
        &self,
        topic: Topic,
        number: u32,
        from: u64,
        max: usize,
    ) -> Result<Option<(Vec<Record>, u64)>, LogError> {
        let partition = self.partition(topic, number)?;
        if from >= partition.end() {
            return Ok(Some((Vec::new(), from)));
        }
        let records = locked(&partition.ring).from(from, max, READ_BYTES);
        Ok(records.map(|records| with_cursor(records, from)))
    }

    /// The same, from disk.
    fn read_stored(
        &self,
        topic: Topic,
        number: u32,
        mut from: u64,
        max: usize,
    ) -> Result<(Vec<Record>, u64), LogError> {
        let partition = self.partition(topic, number)?;
        let end = partition.end();
        let mut records = Vec::new();
        let mut bytes = 0;
        let epochs = read_epochs(partition).clone();
        let first = epochs.partition_point(|epoch| epoch.base_offset <= from).saturating_sub(1);
        for epoch in epochs.iter().skip(first) {
            for guard in epoch.keyspace.range(from.to_be_bytes()..end.to_be_bytes()) {
                let (key, stored) = guard.into_inner().map_err(unavailable)?;
                let offset = offset_of(&key)?;
                let record =
                    codec::decode(Position { topic, partition: number, offset }, &Bytes::from(stored))?;
                bytes += record.value.as_ref().map_or(0, Bytes::len);
                records.push(record);
                if records.len() >= max || bytes >= READ_BYTES {
                    return Ok((records, offset + 1));
                }
            }
            from = from.max(epoch.base_offset);
        }
        Ok((records, end.max(from)))
    }
}

fn with_cursor(records: Vec<Record>, from: u64) -> (Vec<Record>, u64) {
    let next = records.last().map_or(from, |record| record.position.offset + 1);
    (records, next)
}

impl Partition {
    fn open(db: &Database, meta: &Keyspace, topic: Topic, number: u32) -> Result<Self, LogError> {
        let epochs = super::retention::read_epochs(db, meta, topic, number)?;
        let end = match epochs.last() {
            None => 0,
            Some(epoch) => match epoch.keyspace.last_key_value() {
                Some(last) => offset_of(&last.key().map_err(unavailable)?)? + 1,
                None => epoch.base_offset,
            },
        };
        // A compacted topic's last record may be a tombstone that was removed: its end is kept apart.
        let kept_end =
            meta.get(end_key(topic, number)).map_err(unavailable)?.and_then(|v| u64_of(&v)).unwrap_or(0);
        let compacted = topic.retention() == Retention::Compacted;
        let index = if compacted && !epochs.is_empty() {
            Some(Mutex::new(Some(
                db.keyspace(&index_name(topic, number), || small_options()).map_err(unavailable)?,
            )))
        } else {
            compacted.then(|| Mutex::new(None))
        };
        Ok(Partition {
            epochs: RwLock::new(epochs),
            end: AtomicU64::new(end.max(kept_end)),
            ring: Mutex::default(),
            index,
        })
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The writer made these durable.
    pub(super) fn publish(&self, records: Vec<Record>) {
        let Some(last) = records.last() else { return };
        let end = last.position.offset + 1;
        let mut ring = locked(&self.ring);
        for record in records {
            ring.push(record);
        }
        self.end.store(end, Ordering::Release);
    }

    /// Retention dropped everything below `offset`.
    pub(super) fn forget_below(&self, offset: u64) {
        let mut ring = locked(&self.ring);
        while ring.records.front().is_some_and(|record| record.position.offset < offset) {
            ring.pop();
        }
    }
}

impl Ring {
    fn push(&mut self, record: Record) {
        self.bytes += size(&record);
        self.records.push_back(record);
        while self.records.len() > RING_RECORDS || (self.bytes > RING_BYTES && self.records.len() > 1) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= size(&record);
        }
    }

    /// Records in a ring are dense: the writer gives offsets one by one.
    fn at(&self, offset: u64) -> Option<Record> {
        let first = self.records.front()?.position.offset;
        self.records.get(usize::try_from(offset.checked_sub(first)?).ok()?).cloned()
    }

    fn from(&self, offset: u64, max: usize, max_bytes: usize) -> Option<Vec<Record>> {
        let first = self.records.front()?.position.offset;
        let skip = usize::try_from(offset.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let before = bytes;
            bytes += size(record);
            before < max_bytes
        };
        Some(self.records.iter().skip(skip).take(max).take_while(fits).cloned().collect())
    }
}

fn size(record: &Record) -> usize {
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + 64
}

pub(super) fn open_database(directory: &std::path::Path) -> Result<Database, LogError> {
    let open = Database::builder(directory)
        .max_journaling_size(JOURNAL_BYTES)
        .journal_compression(fjall::CompressionType::None)
        .manual_journal_persist(true)
        .worker_threads(2)
        .cache_size(16 << 20)
        .max_cached_files(Some(256))
        .open();
    open.map_err(|error| match error {
        fjall::Error::Locked => unavailable(format!(
            "{} is open in another mailweir process: stop that one first, or use its socket",
            directory.display()
        )),
        other => unavailable(format!("{}: {other:?}", directory.display())),
    })
}

fn check_partition_count(db: &Database, meta: &Keyspace, config: &EmbeddedConfig) -> Result<(), LogError> {
    match meta.get("partitions").map_err(unavailable)?.and_then(|value| u64_of(&value)) {
        None => {
            meta.insert("partitions", u64::from(config.partitions).to_be_bytes()).map_err(unavailable)?;
            db.persist(fjall::PersistMode::SyncAll).map_err(unavailable)
        }
        Some(count) if count == u64::from(config.partitions) => Ok(()),
        Some(count) => Err(unavailable(format!(
            "{} was made with {count} partitions a topic, not {}: the count cannot be changed",
            config.directory.display(),
            config.partitions
        ))),
    }
}

fn read_committed(meta: &Keyspace) -> Result<HashMap<(String, Topic, u32), u64>, LogError> {
    let mut committed = HashMap::new();
    for guard in meta.prefix("offset\0") {
        let (key, value) = guard.into_inner().map_err(unavailable)?;
        let text = String::from_utf8_lossy(&key).into_owned();
        let mut parts = text.split('\0').skip(1);
        let (Some(group), Some(topic), Some(partition)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let topic = Topic::ALL.into_iter().find(|t| t.name() == topic);
        if let (Some(topic), Ok(partition), Some(offset)) = (topic, partition.parse(), u64_of(&value)) {
            committed.insert((group.to_owned(), topic, partition), offset);
        }
    }
    Ok(committed)
}

pub(super) fn offset_key(group: &str, topic: Topic, partition: u32) -> String {
    format!("offset\0{group}\0{topic}\0{partition}")
}

pub(super) fn end_key(topic: Topic, partition: u32) -> String {
    format!("end\0{topic}\0{partition}")
}

pub(super) fn index_name(topic: Topic, partition: u32) -> String {
    format!("k-{topic}-{partition}")
}

/// Options of a keyspace that holds records.
pub(super) fn record_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .manual_journal_persist(true)
        .with_kv_separation(Some(
            KvSeparationOptions::default()
                .separation_threshold(SEPARATION_BYTES)
                .compression(fjall::CompressionType::None),
        ))
}

/// Options of a keyspace of small values.
pub(super) fn small_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES / 2).manual_journal_persist(true)
}

pub(super) fn read_epochs(partition: &Partition) -> std::sync::RwLockReadGuard<'_, Vec<Epoch>> {
    partition.epochs.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) fn epoch_of(epochs: &[Epoch], offset: u64) -> Option<&Epoch> {
    epochs.partition_point(|epoch| epoch.base_offset <= offset).checked_sub(1).map(|index| &epochs[index])
}

pub(super) fn u64_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn offset_of(key: &[u8]) -> Result<u64, LogError> {
    u64_of(key).ok_or_else(|| unavailable("a record's key in the store is no offset"))
}
