//! The engine's files: the keyspaces of an open fjall database, and reading from them.
//!
//! One keyspace per (topic, partition, epoch) holds rows by offset, named `topic.partition.base`, the base being the
//! first offset it may hold. `meta` holds what the log knows about itself and the groups' offsets, `keys` the newest row
//! of every key of compacted topics.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use fjall::{
    Database, JournalRecoveryError, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, Readable, Snapshot,
};
use schemas::topics::{Retention, TopicPartition};
use schemas::{Position, Timestamp, Topic};

use super::config::EmbeddedConfig;
use super::layout::Layout;
use super::{catalogue, meta, row, torn};
use crate::{LogError, Record};

/// An open database. Every handle of fjall lives in here, so that dropping it lets go of the files.
pub(super) struct Store {
    pub(super) db: Database,
    pub(super) meta: Keyspace,
    pub(super) keys: Keyspace,
    /// By the partition's place in the layout, oldest epoch first.
    epochs: Vec<RwLock<Vec<Epoch>>>,
    config: EmbeddedConfig,
    layout: Layout,
}

/// A run of a partition's records, dropped as a whole.
#[derive(Clone)]
pub(super) struct Epoch {
    pub(super) base: u64,
    pub(super) keyspace: Keyspace,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    /// About how much was written to it, in bytes.
    pub(super) bytes: u64,
}

/// Where a read shall begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) index: usize,
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) max: usize,
    pub(super) max_bytes: usize,
}

impl Store {
    /// Opens or creates the database. The layout is what it was created with, else what `config` says.
    pub(super) fn open(config: &EmbeddedConfig) -> Result<Self, LogError> {
        remove_unfinished(&config.directory.join("data")).map_err(|error| opening(config, &error.into()))?;
        catalogue::tidy(&config.directory, catalogue::TIDY_FROM_BYTES);
        let db = match database(config) {
            Err(fjall::Error::JournalRecovery(JournalRecoveryError::ChecksumMismatch)) => {
                leave_out_torn_batch(config)?;
                database(config)
            }
            opened => opened,
        };
        let db = db.map_err(|error| opening(config, &error))?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(config.small_memtable_bytes);
        let meta = db.keyspace("meta", small).map_err(|error| opening(config, &error))?;
        let keys = db.keyspace("keys", small).map_err(|error| opening(config, &error))?;
        sync_keyspaces(config).map_err(|error| opening(config, &error.into()))?;
        let partitions = meta::partitions(&db, &meta, config.partitions)?;
        if partitions != config.partitions {
            tracing::warn!(partitions, "the log keeps the number of partitions it was created with");
        }
        let layout = Layout::new(partitions);
        let mut epochs: Vec<Vec<Epoch>> = layout.all().iter().map(|_| Vec::new()).collect();
        for name in db.list_keyspace_names() {
            let Some((of, base)) = parse_name(&name) else { continue };
            let index = layout.index(of)?;
            let keyspace =
                db.keyspace(&name, || options(config, of.topic)).map_err(|error| opening(config, &error))?;
            epochs[index].push(Epoch::recover(base, keyspace)?);
        }
        for partition in &mut epochs {
            partition.sort_by_key(|epoch| epoch.base);
        }
        let epochs = epochs.into_iter().map(RwLock::new).collect();
        Ok(Store { db, meta, keys, epochs, config: config.clone(), layout })
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Size of an epoch at which the next one begins, in bytes.
    pub(super) fn epoch_bytes(&self) -> u64 {
        self.config.epoch_bytes
    }

    pub(super) fn epochs(&self, index: usize) -> RwLockReadGuard<'_, Vec<Epoch>> {
        self.epochs[index].read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epochs_mut(&self, index: usize) -> RwLockWriteGuard<'_, Vec<Epoch>> {
        self.epochs[index].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset after the last one ever given out in a partition.
    pub(super) fn end(&self, index: usize) -> Result<u64, LogError> {
        let floor = meta::floor(&self.meta, self.layout.all()[index])?;
        let Some(newest) = self.epochs(index).last().cloned() else { return Ok(floor) };
        Ok(newest.last_row()?.map_or(newest.base, |last| last.offset + 1).max(floor))
    }

    /// The same for every partition.
    pub(super) fn ends(&self) -> Result<Vec<u64>, LogError> {
        (0..self.epochs.len()).map(|index| self.end(index)).collect()
    }

    /// The offset after the last row of a partition in a snapshot.
    pub(super) fn end_at(&self, index: usize, snapshot: &Snapshot) -> Result<u64, LogError> {
        for epoch in self.epochs(index).iter().rev() {
            let last = snapshot.last_key_value(&epoch.keyspace).map(fjall::Guard::key).transpose();
            if let Some(last) = last.map_err(|e| unavailable(&e))?.as_deref().and_then(row::decode_key) {
                return Ok(last.offset + 1);
            }
        }
        Ok(0)
    }

    /// Begins an epoch at `base`.
    pub(super) fn begin_epoch(&self, index: usize, base: u64, at: Timestamp) -> Result<Epoch, LogError> {
        let of = self.layout.all()[index];
        let name = format!("{}.{}.{base}", of.topic, of.partition);
        let keyspace =
            self.db.keyspace(&name, || options(&self.config, of.topic)).map_err(|e| unavailable(&e))?;
        sync_keyspaces(&self.config).map_err(|error| unavailable(&error.into()))?;
        let epoch = Epoch { base, keyspace, first_at: at, last_at: at, bytes: 0 };
        self.epochs_mut(index).push(epoch.clone());
        Ok(epoch)
    }

    /// Records of a span in order, and the offset to go on from, which is `until` when there are no more.
    pub(super) fn scan(&self, span: Span, at: Option<&Snapshot>) -> Result<(Vec<Record>, u64), LogError> {
        let of = self.layout.all()[span.index];
        let epochs = self.epochs(span.index).clone();
        let mut found = Vec::new();
        let mut bytes = 0;
        for (number, epoch) in epochs.iter().enumerate() {
            let ends = epochs.get(number + 1).map_or(u64::MAX, |next| next.base);
            if ends <= span.from || epoch.base >= span.until {
                continue;
            }
            let range = (
                Bound::Included(row::from_offset(span.from.max(epoch.base))),
                Bound::Excluded(row::from_offset(span.until)),
            );
            let rows = match at {
                Some(snapshot) => snapshot.range(&epoch.keyspace, range),
                None => epoch.keyspace.range(range),
            };
            for guard in rows {
                let next = found.last().map_or(span.from, |record: &Record| record.position.offset + 1);
                if found.len() >= span.max || bytes >= span.max_bytes {
                    return Ok((found, next));
                }
                let (key, value) = guard.into_inner().map_err(|error| reading(of, next, &error))?;
                bytes += key.len() + value.len();
                found.push(row::decode(of, next, &key.into(), value.into())?);
            }
        }
        Ok((found, span.until))
    }

    /// The record at an offset, if it is kept.
    pub(super) fn get(&self, index: usize, offset: u64) -> Result<Option<Record>, LogError> {
        let until = offset.saturating_add(1);
        let span = Span { index, from: offset, until, max: 1, max_bytes: usize::MAX };
        Ok(self.scan(span, None)?.0.pop())
    }

    /// The first offset still kept of a partition that ends at `end`.
    pub(super) fn start(&self, index: usize, end: u64) -> u64 {
        self.epochs(index).first().map_or(end, |oldest| oldest.base)
    }
}

impl Epoch {
    /// The same, empty, as of a batch that was gathered at this time.
    pub(super) fn beginning_at(&self, at: Timestamp) -> Self {
        Epoch { first_at: at, last_at: at, bytes: 0, ..self.clone() }
    }

    fn recover(base: u64, keyspace: Keyspace) -> Result<Self, LogError> {
        let bytes = keyspace.disk_space();
        let mut epoch =
            Epoch { base, keyspace, first_at: Timestamp::default(), last_at: Timestamp::default(), bytes };
        let first = epoch.keyspace.first_key_value().map(fjall::Guard::key).transpose();
        let first = first.map_err(|e| unavailable(&e))?;
        if let Some(first) = first.as_deref().and_then(row::decode_key) {
            epoch.first_at = first.appended_at;
        }
        if let Some(last) = epoch.last_row()? {
            epoch.last_at = last.appended_at;
        }
        Ok(epoch)
    }

    fn last_row(&self) -> Result<Option<row::RowKey>, LogError> {
        let last = self.keyspace.last_key_value().map(fjall::Guard::key).transpose();
        Ok(last.map_err(|e| unavailable(&e))?.as_deref().and_then(row::decode_key))
    }
}

/// Rows of topics kept by time are written once and dropped with their epoch: their values stand apart, so that
/// compaction moves keys only. Rows of compacted topics die one by one, soon, and mostly before they are written out.
fn options(config: &EmbeddedConfig, topic: Topic) -> KeyspaceCreateOptions {
    let whole_messages =
        matches!(topic, Topic::Accepted | Topic::Released | Topic::Quarantined | Topic::Bodies);
    let memtable = if whole_messages { config.memtable_bytes } else { config.small_memtable_bytes };
    let options = KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true);
    match topic.retention() {
        Retention::Time(_) => options.with_kv_separation(Some(KvSeparationOptions::default())),
        Retention::Compacted => options,
    }
}

fn database(config: &EmbeddedConfig) -> fjall::Result<Database> {
    Database::builder(config.directory.join("data"))
        .cache_size(config.cache_bytes)
        .max_journaling_size(config.journal_bytes)
        .manual_journal_persist(true)
        // fjall 3.1 lets the first of several hand a compaction back to itself, over and over, while the others work.
        .worker_threads(1)
        .open()
}

fn leave_out_torn_batch(config: &EmbeddedConfig) -> Result<(), LogError> {
    let kept =
        torn::leave_out_torn_batch(&config.directory).map_err(|error| opening(config, &error.into()))?;
    if let Some(kept) = kept {
        tracing::error!(
            journal_before = %kept.display(),
            "the last write to the log was torn, as by a power failure; it was acknowledged to nobody and is left out"
        );
    }
    Ok(())
}

/// Removes a database whose making was interrupted, which would never open: nothing can be in one without keyspaces.
fn remove_unfinished(data: &Path) -> io::Result<()> {
    let version = data.join("version").metadata().map_or(0, |version| version.len());
    let has_keyspaces =
        data.join("keyspaces").read_dir().is_ok_and(|mut keyspaces| keyspaces.next().is_some());
    if version > 0 || has_keyspaces || !data.exists() {
        return Ok(());
    }
    tracing::warn!(data = %data.display(), "the log was being made when that was interrupted; it is made anew");
    std::fs::remove_dir_all(data)
}

/// Makes durable that a keyspace is there, which fjall leaves open: without its directory, the rows that the journal has
/// for it would be passed over after a power failure.
fn sync_keyspaces(config: &EmbeddedConfig) -> io::Result<()> {
    std::fs::File::open(config.directory.join("data").join("keyspaces"))?.sync_all()
}

/// The partition and base that a keyspace's name says; none for `meta`, `keys` and topics of a later version.
fn parse_name(name: &str) -> Option<(TopicPartition, u64)> {
    let mut parts = name.split('.');
    let topic = parts.next()?;
    let topic = Topic::ALL.into_iter().find(|known| known.name() == topic)?;
    let partition = parts.next()?.parse().ok()?;
    let base = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((TopicPartition { topic, partition }, base))
}

/// A failure of the engine that a later try may not see.
pub(super) fn unavailable(error: &fjall::Error) -> LogError {
    LogError::Unavailable(match error {
        fjall::Error::Poisoned => "an earlier write to disk failed".into(),
        fjall::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    })
}

fn opening(config: &EmbeddedConfig, error: &fjall::Error) -> LogError {
    LogError::Unavailable(format!(
        "opening the log in {}: {}",
        config.directory.display(),
        unavailable(error)
    ))
}

fn reading(of: TopicPartition, offset: u64, error: &fjall::Error) -> LogError {
    match error {
        fjall::Error::Io(_) | fjall::Error::Poisoned => unavailable(error),
        other => LogError::Damaged {
            position: Position { topic: of.topic, partition: of.partition, offset },
            detail: other.to_string(),
        },
    }
}

/// A key of a batch, as fjall takes it.
pub(super) fn slice(bytes: impl Into<Bytes>) -> fjall::Slice {
    bytes.into().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keyspaces_say_what_they_hold() {
        let of = TopicPartition { topic: Topic::Accepted, partition: 3 };
        assert_eq!(parse_name("accepted.3.1200"), Some((of, 1200)));
        for other in ["meta", "keys", "accepted.3", "accepted.x.1", "later.0.0", "accepted.0.0.0"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_log_whose_making_was_interrupted_is_made_anew() {
        let make: [fn(&Path); 3] = [
            |data| std::fs::create_dir(data.join("keyspaces")).expect("is made"),
            |data| std::fs::write(data.join("0.jnl"), [0; 64]).expect("is written"),
            |data| std::fs::write(data.join("version"), "").expect("is written"),
        ];
        for steps in 0..=make.len() {
            let directory = tempfile::tempdir().expect("a directory");
            let data = directory.path().join("data");
            std::fs::create_dir(&data).expect("is made");
            make[..steps].iter().for_each(|make| make(&data));
            let opened = Store::open(&EmbeddedConfig::new(directory.path()));
            assert!(opened.is_ok(), "after {steps} steps: {:?}", opened.err());
        }
    }

    #[test]
    fn a_log_whose_last_write_was_torn_opens_without_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EmbeddedConfig::new(directory.path());
        let store = Store::open(&config).expect("opens");
        let epoch = store.begin_epoch(0, 0, Timestamp(5)).expect("begins");
        for offset in 0..2 {
            let mut rows = store.db.batch().durability(Some(fjall::PersistMode::SyncData));
            let row = row::encode(offset, Timestamp(5), false, b"key");
            rows.insert(&epoch.keyspace, slice(row), vec![7 + offset as u8; 9000]);
            rows.commit().expect("is written");
        }
        drop((epoch, store));
        let journal = directory.path().join("data/0.jnl");
        let mut content = std::fs::read(&journal).expect("reads");
        let value = content.windows(9000).position(|window| window == [8; 9000]).expect("is there");
        content[value + 100..value + 4196].fill(0);
        std::fs::write(&journal, content).expect("is written");
        let store = Store::open(&config).expect("opens without the last");
        assert!(store.get(0, 0).expect("reads").is_some());
        assert!(store.get(0, 1).expect("reads").is_none());
        assert_eq!(store.end(0).expect("ends"), 1);
    }

    /// After its version is written, fjall makes its own tree, and then we make our keyspaces.
    #[test]
    fn a_log_whose_keyspaces_were_still_to_be_made_opens() {
        for is_made in [0, 1, 2] {
            let directory = tempfile::tempdir().expect("a directory");
            let config = EmbeddedConfig::new(directory.path());
            drop(Store::open(&config).expect("opens"));
            for number in is_made..3 {
                let keyspace = directory.path().join(format!("data/keyspaces/{number}"));
                std::fs::remove_dir_all(keyspace).expect("is removed");
            }
            std::fs::write(directory.path().join("data/0.jnl"), [0; 64]).expect("is written");
            let opened = Store::open(&config);
            assert!(opened.is_ok(), "{is_made} made: {:?}", opened.err());
        }
    }

    #[test]
    fn a_log_that_lost_its_version_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EmbeddedConfig::new(directory.path());
        drop(Store::open(&config).expect("opens"));
        std::fs::remove_file(directory.path().join("data/version")).expect("is removed");
        assert!(Store::open(&config).is_err());
        assert!(directory.path().join("data/0.jnl").exists());
    }
}
