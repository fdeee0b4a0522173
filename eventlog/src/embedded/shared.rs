//! What the writer, the readers and the handle share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio::sync::{Notify, oneshot};

use super::config::EmbeddedConfig;
use super::disk;
use super::group::Ground;
use super::layout::Layout;
use super::meta::{self, Committed};
use super::partition::{Found, Partition};
use super::queue::{Queue, Reply, Request};
use super::store::{Span, Store};
use crate::{Clock, LogError, Record};

/// Most bytes one read returns, so that many waiting readers stay within bounds.
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct Shared {
    pub(super) config: EmbeddedConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) queue: Queue,
    pub(super) layout: Layout,
    pub(super) partitions: Vec<Partition>,
    /// Absent while it is closed, after a failure or for good.
    pub(super) store: RwLock<Option<Store>>,
    pub(super) health: RwLock<Health>,
    /// Free disk space as it was last looked at, in bytes.
    pub(super) free_bytes: AtomicU64,
    pub(super) committed: Mutex<Committed>,
    /// How often the store was opened. Changes together with `store`, under its lock.
    pub(super) opened: AtomicU64,
}

/// Whether the log can be used.
#[derive(Clone, Debug)]
pub(super) enum Health {
    Up,
    /// Why not; it is opened again with back-off.
    Down(String),
    Closed,
}

impl Shared {
    /// Of a log that is up.
    pub(super) fn new(store: Store, config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let ends = store.ends()?;
        let committed = meta::committed(&store.meta)?;
        Ok(Shared {
            queue: Queue::new(config.max_waiting_bytes),
            layout: store.layout().clone(),
            partitions: ends.iter().map(|end| Partition::new(*end, config.recent_bytes)).collect(),
            store: RwLock::new(Some(store)),
            health: RwLock::new(Health::Up),
            free_bytes: AtomicU64::new(disk::free_bytes(&config.directory).unwrap_or(u64::MAX)),
            committed: Mutex::new(committed),
            opened: AtomicU64::new(1),
            config,
            clock,
        })
    }

    /// Fails when the log is down or closed.
    pub(super) fn up(&self) -> Result<(), LogError> {
        match &*self.health.read().unwrap_or_else(PoisonError::into_inner) {
            Health::Up => Ok(()),
            Health::Down(why) => Err(LogError::Unavailable(why.clone())),
            Health::Closed => Err(LogError::Closed),
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        *self.health.write().unwrap_or_else(PoisonError::into_inner) = health;
        for partition in &self.partitions {
            partition.wake();
        }
    }

    pub(super) fn accepting(&self) -> Result<(), LogError> {
        self.up()?;
        let (free, min) = (self.free_bytes.load(Ordering::Relaxed), self.config.min_free_bytes);
        if free < min {
            return Err(LogError::Unavailable(format!(
                "{free} bytes are free in {}, {min} must be",
                self.config.directory.display()
            )));
        }
        Ok(())
    }

    /// Closes the store. fjall waits for its threads meanwhile; nobody else has to wait with it.
    pub(super) fn close_store(&self) {
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(store);
    }

    /// Puts a store that was opened again in its place.
    pub(super) fn put_store(&self, opened: Store) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        *store = Some(opened);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes the store and opens it again. Whoever reads meanwhile waits.
    pub(super) fn renew_store(&self) -> Result<(), LogError> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        drop(store.take());
        *store = Some(Store::open(&self.config)?);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a read on the open store. It may wait for the disk.
    pub(super) fn with_store<T>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        match &*store {
            Some(store) => read(store),
            None => {
                self.up()?;
                Err(LogError::Unavailable("the log is being opened".into()))
            }
        }
    }

    /// The same, off the threads that must not wait.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Store) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || shared.with_store(read))
            .await
            .unwrap_or_else(|error| Err(LogError::Unavailable(format!("a read broke off: {error}"))))
    }

    /// Hands the writer a request and waits for its answer.
    pub(super) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(request(reply))?;
        answer.await.unwrap_or_else(|_| {
            self.up()?;
            Err(LogError::Unavailable("the writer broke off".into()))
        })
    }

    /// Records of a partition from an offset on, from memory when they are recent, and the offset to go on from. No
    /// records and the same offset: nothing there yet.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        index: usize,
        from: u64,
        max: usize,
    ) -> Result<(Vec<Record>, u64), LogError> {
        match self.partitions[index].find(from, max, MAX_READ_BYTES) {
            Found::Records(records, next) => Ok((records, next)),
            Found::AtEnd => Ok((Vec::new(), from)),
            Found::OnDisk { end } => {
                let span = Span { index, from, until: end, max, max_bytes: MAX_READ_BYTES };
                self.blocking(move |store| store.scan(span, None)).await
            }
        }
    }

    pub(super) fn committed(&self) -> MutexGuard<'_, Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn lag(self: &Arc<Self>, group: &str, topic: Topic) -> Result<u64, LogError> {
        let (shared, group) = (Arc::clone(self), group.to_owned());
        self.blocking(move |store| {
            let mut lag = 0;
            for partition in 0..shared.layout.partitions(topic) {
                let of = TopicPartition { topic, partition };
                let index = shared.layout.index(of)?;
                let end = shared.partitions[index].end();
                let from = Ground::committed(&*shared, &group, of).max(store.start(index, end));
                lag += end.saturating_sub(from);
            }
            Ok(lag)
        })
        .await
    }

    pub(super) fn listen(&self, places: impl Iterator<Item = usize>, listener: &Arc<Notify>) {
        for place in places {
            self.partitions[place].listen(listener);
        }
    }

    pub(super) fn unlisten(&self, places: impl Iterator<Item = usize>, listener: &Arc<Notify>) {
        for place in places {
            self.partitions[place].unlisten(listener);
        }
    }
}

impl Ground for Shared {
    fn partitions(&self, topic: Topic) -> u32 {
        self.layout.partitions(topic)
    }

    fn committed(&self, group: &str, of: TopicPartition) -> u64 {
        self.committed().get(group).and_then(|offsets| offsets.get(&of)).copied().unwrap_or(0)
    }
}
