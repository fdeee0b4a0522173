//! The writer's thread: gathers what waits, writes it as one batch with one fsync, tells everyone. What changes groups
//! runs here, too, between batches, so that nothing about a member changes while its commit is under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use schemas::Timestamp;
use schemas::topics::TopicPartition;

use super::batch::{Batch, place};
use super::group::{Ground, Groups};
use super::lock::DirectoryLock;
use super::meta::{self, Committed};
use super::queue::{Commit, Reply, Request};
use super::retention::Look;
use super::shared::{Health, Shared};
use super::store::{Store, unavailable};
use super::{backup, catalogue, disk, journal, retention};
use crate::LogError;

/// How often the writer looks around when nothing is to be written.
const TICK: Duration = Duration::from_secs(1);
/// A batch is written when it is this large, in bytes, even if more waits; well below a memtable.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
const MAX_BATCH_RECORDS: usize = 8192;
const MAX_REOPEN_DELAY: Duration = Duration::from_secs(30);
/// Flushes of a keyspace that may be outstanding before a batch waits. fjall halts the writer at 4, for ever if the
/// flush then fails; we wait before, where a failure is seen.
const MAX_SEALED_MEMTABLES: usize = 1;
const MAX_UNMERGED_TABLES: usize = 24;

pub(super) struct Writer {
    shared: Arc<Shared>,
    groups: Groups,
    /// The next offset of each partition.
    ends: Vec<u64>,
    next_tick: Instant,
    next_retention: Timestamp,
    reopen: Option<Reopen>,
    /// Size of the tree of keyspaces when the store was opened, in bytes.
    catalogue_at_opening: u64,
    closing: Vec<Reply<()>>,
    _lock: DirectoryLock,
}

/// When to open the store again.
#[derive(Clone, Copy)]
struct Reopen {
    at: Instant,
    delay: Duration,
}

/// Closes the log for everyone, however the writer's thread ends.
struct CloseForAll(Arc<Shared>);

impl Drop for CloseForAll {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the log's writer panicked, the log is closed");
        }
        self.0.queue.close();
        self.0.set_health(Health::Closed);
        self.0.close_store();
        // What came in between gets its answer by being dropped.
        drop(self.0.queue.take(Duration::ZERO, Duration::ZERO));
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, lock: DirectoryLock) -> Self {
        let ends = shared.partitions.iter().map(super::partition::Partition::end).collect();
        let groups = Groups::new(shared.config.release_timeout);
        let next_retention = shared.clock.now().plus(shared.config.retention_grace);
        let catalogue_at_opening = catalogue::size_bytes(&shared.config.directory);
        Writer {
            shared,
            catalogue_at_opening,
            groups,
            ends,
            next_tick: Instant::now(),
            next_retention,
            reopen: None,
            closing: Vec::new(),
            _lock: lock,
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        let guard = CloseForAll(Arc::clone(&self.shared));
        while let Some(requests) = self.shared.queue.take(self.wait(), self.shared.config.commit_linger) {
            self.serve(requests);
            if Instant::now() >= self.next_tick {
                self.tick();
            }
        }
        let closing = std::mem::take(&mut self.closing);
        drop(guard);
        // Lets go of the directory before it says so.
        drop(self);
        for reply in closing {
            let _ = reply.send(Ok(()));
        }
    }

    fn wait(&self) -> Duration {
        let until = self.reopen.map_or(self.next_tick, |reopen| reopen.at.min(self.next_tick));
        until.saturating_duration_since(Instant::now())
    }

    fn serve(&mut self, requests: VecDeque<Request>) {
        let mut batch = Batch::new(self.shared.clock.now());
        for request in requests {
            match request {
                Request::Append { records, reply, room } => match self.shared.up() {
                    Ok(()) => batch.append(records, reply, room, &self.shared.layout, &mut self.ends),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Commit { commit, reply, room } => match self.check(&commit) {
                    Ok(()) => {
                        batch.advance(&commit.member.group, &commit.next);
                        batch.append(commit.outputs, reply, room, &self.shared.layout, &mut self.ends);
                    }
                    Err(error) => drop(reply.send(Err(error))),
                },
                other => {
                    self.write(std::mem::replace(&mut batch, Batch::new(self.shared.clock.now())));
                    self.control(other);
                }
            }
            if batch.bytes >= MAX_BATCH_BYTES || batch.records.len() >= MAX_BATCH_RECORDS {
                self.write(std::mem::replace(&mut batch, Batch::new(self.shared.clock.now())));
            }
        }
        self.write(batch);
    }

    /// Whether a commit may go ahead.
    fn check(&self, commit: &Commit) -> Result<(), LogError> {
        self.shared.up()?;
        if let Some(detail) = self.groups.refuse(&commit.member, &commit.next) {
            return Err(LogError::Fenced { group: commit.member.group.clone(), detail });
        }
        commit.outputs.iter().try_for_each(|record| place(record, &self.shared.layout).map(|_| ()))
    }

    fn write(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let written = self.shared.with_store(|store| {
            wait_for_flushes(store, &batch)?;
            batch.write(store)
        });
        match written {
            Ok(()) => self.publish(batch),
            Err(error) => {
                self.fail(&error);
                for (reply, _) in batch.replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Shows readers what is on disk now, and answers who waits.
    fn publish(&self, batch: Batch) {
        {
            let mut committed = self.shared.committed();
            for ((group, of), offset) in batch.offsets {
                committed.entry(group).or_default().insert(of, offset);
            }
        }
        let mut by_place = batch.records;
        by_place.sort_by_key(|placed| placed.place);
        let mut touched = Vec::new();
        for run in by_place.chunk_by(|a, b| a.place == b.place) {
            let place = run[0].place;
            self.shared.partitions[place].publish(run.iter().map(|placed| placed.record.clone()));
            touched.push(place);
        }
        for (reply, positions) in batch.replies {
            let _ = reply.send(Ok(positions));
        }
        for place in touched {
            self.shared.partitions[place].wake();
        }
    }

    fn control(&mut self, request: Request) {
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        match request {
            Request::Append { .. } | Request::Commit { .. } => {
                unreachable!("appends and commits are gathered by `serve`")
            }
            Request::Join { member, reply } => {
                let answer = shared.up().map(|()| self.groups.join(&member, now, &*shared));
                if reply.send(answer).is_err() {
                    // Whoever wanted to join is gone already.
                    self.groups.leave(&member, now, &*shared);
                }
            }
            Request::Release { member, reply } => {
                self.groups.release(&member, now, &*shared);
                let _ = reply.send(Ok(()));
            }
            Request::Leave { member, reply } => {
                self.groups.leave(&member, now, &*shared);
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
            Request::Committed { member, reply } => {
                let owned: Vec<TopicPartition> = member.view().owned.keys().copied().collect();
                let offsets = owned
                    .into_iter()
                    .map(|of| (of, Ground::committed(&*shared, &member.group, of)))
                    .collect();
                let _ = reply.send(shared.up().map(|()| offsets));
            }
            Request::EnforceRetention { reply } => drop(reply.send(self.enforce_retention())),
            Request::Stage { into, reply } => {
                drop(reply.send(shared.with_store(|_| backup::stage(&shared.config.directory, &into))));
            }
            Request::Close { reply } => {
                shared.queue.close();
                self.closing.push(reply);
            }
        }
    }

    fn enforce_retention(&mut self) -> Result<(), LogError> {
        let (now, delay) = (self.shared.clock.now(), self.shared.config.tombstone_delay);
        self.next_retention = now.plus(self.shared.config.retention_interval);
        let committed = self.shared.committed().clone();
        let done = self.shared.with_store(|store| {
            retention::enforce(store, &self.ends, &committed, now, delay)?;
            for (place, end) in self.ends.iter().enumerate() {
                self.shared.partitions[place].forget_before(store.start(place, *end));
            }
            Ok(())
        });
        if let Err(error) = &done {
            self.fail(error);
            return done;
        }
        // What tidying could not take away stays; to open again for it would be in vain.
        let bound = self.shared.config.catalogue_bytes.max(4 * self.catalogue_at_opening);
        if catalogue::size_bytes(&self.shared.config.directory) > bound {
            self.renew();
        }
        done
    }

    /// Closes the store and opens it again, between two batches. Nobody takes it for a failure.
    fn renew(&mut self) {
        let began = Instant::now();
        match self.shared.renew_store() {
            Ok(()) => {
                tracing::info!(took = ?began.elapsed(), "the log was closed and opened again to tidy it");
            }
            Err(error) => self.fail(&error),
        }
        self.catalogue_at_opening = catalogue::size_bytes(&self.shared.config.directory);
    }

    /// What must be looked at now and then.
    fn tick(&mut self) {
        let now = Instant::now();
        self.next_tick = now + TICK;
        if let Some(free) = disk::free_bytes(&self.shared.config.directory) {
            self.shared.free_bytes.store(free, Ordering::Relaxed);
        }
        let shared = Arc::clone(&self.shared);
        self.groups.expire(now, &*shared);
        if let Some(reopen) = self.reopen {
            if reopen.at <= now {
                self.reopen(reopen);
            }
            return;
        }
        // A flush in the background may have failed while nothing was written.
        let alive = self.shared.with_store(|store| {
            store.db.persist(fjall::PersistMode::Buffer).map_err(|error| unavailable(&error))
        });
        if let Err(error) = alive {
            self.fail(&error);
            return;
        }
        let (interval, grace) = (self.shared.config.retention_interval, self.shared.config.retention_grace);
        match retention::look(self.next_retention, self.shared.clock.now(), interval, grace) {
            // A failure was handled there.
            Look::Enforce => drop(self.enforce_retention()),
            Look::NotBefore(at) => self.next_retention = at,
        }
    }

    /// Closes the store after a failure; it is opened again with back-off.
    fn fail(&mut self, error: &LogError) {
        if matches!(error, LogError::Closed) || self.reopen.is_some() {
            return;
        }
        tracing::error!(%error, "the log failed and is closed until it can be opened again");
        self.shared.set_health(Health::Down(error.to_string()));
        self.shared.close_store();
        self.put_off(self.shared.config.reopen_delay);
    }

    fn put_off(&mut self, delay: Duration) {
        self.reopen = Some(Reopen { at: Instant::now() + delay, delay });
        self.next_tick = self.next_tick.min(Instant::now() + delay);
    }

    fn reopen(&mut self, last: Reopen) {
        match open_and_recover(&self.shared) {
            Ok((store, ends, committed)) => {
                tracing::info!("the log is open again");
                for (partition, end) in self.shared.partitions.iter().zip(&ends) {
                    partition.reset(*end);
                }
                self.ends = ends;
                *self.shared.committed() = committed;
                self.shared.put_store(store);
                self.catalogue_at_opening = catalogue::size_bytes(&self.shared.config.directory);
                self.reopen = None;
                // Nobody could write anew what is queued while the log was away.
                let after_grace = self.shared.clock.now().plus(self.shared.config.retention_grace);
                self.next_retention = self.next_retention.max(after_grace);
                self.shared.set_health(Health::Up);
            }
            Err(error) => {
                tracing::error!(%error, "the log cannot be opened yet");
                self.shared.set_health(Health::Down(error.to_string()));
                self.put_off((last.delay * 2).min(MAX_REOPEN_DELAY));
            }
        }
    }
}

fn open_and_recover(shared: &Shared) -> Result<(Store, Vec<u64>, Committed), LogError> {
    journal::write_anew(&shared.config.directory)
        .map_err(|error| LogError::Unavailable(format!("the journals cannot be written anew: {error}")))?;
    let store = Store::open(&shared.config)?;
    let ends = store.ends()?;
    let committed = meta::committed(&store.meta)?;
    Ok((store, ends, committed))
}

/// Waits while the keyspaces of a batch are behind with their flushes.
fn wait_for_flushes(store: &Store, batch: &Batch) -> Result<(), LogError> {
    let mut places: Vec<usize> = batch.records.iter().map(|placed| placed.place).collect();
    places.sort_unstable();
    places.dedup();
    for place in places {
        let Some(newest) = store.epochs(place).last().map(|epoch| epoch.keyspace.clone()) else { continue };
        for keyspace in [&newest, &store.meta, &store.keys] {
            while keyspace.sealed_memtable_count() > MAX_SEALED_MEMTABLES
                || keyspace.l0_table_count() > MAX_UNMERGED_TABLES
            {
                // Says so when the flush failed.
                store.db.persist(fjall::PersistMode::Buffer).map_err(|error| unavailable(&error))?;
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
