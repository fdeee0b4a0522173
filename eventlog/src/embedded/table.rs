//! A compacted topic being followed: first as it stood when opened, then what is written.
//!
//! The rows as they stood are read from a snapshot, because a row that is written over in the meantime is gone from its
//! place, and its key would be missing until the reader comes to the new one. A log that failed and was opened again
//! gives a new snapshot, of everything durable by then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use fjall::Snapshot;
use tokio::sync::Notify;

use super::shared::Shared;
use super::store::Span;
use crate::{LogError, Table, TableEvent};

/// Most bytes of rows in one step of the replay.
const MAX_REPLAY_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct EmbeddedTable {
    shared: Arc<Shared>,
    cursors: Vec<Cursor>,
    replay: Option<Replay>,
    caught_up: bool,
    /// The cursor whose turn is next.
    turn: usize,
    notify: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Cursor {
    index: usize,
    position: u64,
}

/// The topic as it stood.
struct Replay {
    snapshot: Arc<Snapshot>,
    /// Which opening of the store the snapshot is of.
    opened: u64,
    /// For each cursor, where the snapshot ends.
    ends: Vec<u64>,
}

impl EmbeddedTable {
    pub(super) async fn open(shared: Arc<Shared>, indexes: Vec<usize>) -> Result<Self, LogError> {
        let notify = Arc::new(Notify::new());
        shared.listen(indexes.iter().copied(), &notify);
        let cursors = indexes.into_iter().map(|index| Cursor { index, position: 0 }).collect();
        let mut table = EmbeddedTable { shared, cursors, replay: None, caught_up: false, turn: 0, notify };
        table.take_snapshot().await?;
        Ok(table)
    }

    async fn take_snapshot(&mut self) -> Result<(), LogError> {
        self.replay = None;
        let opened = self.shared.opened.load(Ordering::Relaxed);
        let indexes: Vec<usize> = self.cursors.iter().map(|cursor| cursor.index).collect();
        let (snapshot, ends) = self
            .shared
            .blocking(move |store| {
                let snapshot = store.db.snapshot();
                let ends = indexes
                    .iter()
                    .map(|index| store.end_at(*index, &snapshot))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((snapshot, ends))
            })
            .await?;
        self.replay = Some(Replay { snapshot: Arc::new(snapshot), opened, ends });
        Ok(())
    }

    /// The next rows as they stood, or `CaughtUp` after the last.
    async fn replay(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError> {
        loop {
            let opened = self.shared.opened.load(Ordering::Relaxed);
            let Some(replay) = self.replay.as_ref().filter(|replay| replay.opened == opened) else {
                self.take_snapshot().await?;
                continue;
            };
            let unfinished =
                self.cursors.iter().zip(&replay.ends).position(|(cursor, end)| cursor.position < *end);
            let Some(number) = unfinished else {
                self.replay = None;
                self.caught_up = true;
                return Ok(vec![TableEvent::CaughtUp]);
            };
            let cursor = self.cursors[number];
            let span = Span {
                index: cursor.index,
                from: cursor.position,
                until: replay.ends[number],
                max,
                max_bytes: MAX_REPLAY_BYTES,
            };
            let (snapshot, shared) = (Arc::clone(&replay.snapshot), Arc::clone(&self.shared));
            let scanned = self.shared.blocking(move |store| {
                // A snapshot of an earlier opening says nothing about this store.
                let is_of_this = shared.opened.load(Ordering::Relaxed) == opened;
                is_of_this.then(|| store.scan(span, Some(&snapshot))).transpose()
            });
            let Some((rows, next)) = scanned.await? else { continue };
            self.cursors[number].position = next;
            if !rows.is_empty() {
                return Ok(rows.into_iter().map(TableEvent::Row).collect());
            }
        }
    }

    /// What was written since.
    async fn follow(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError> {
        loop {
            self.shared.up()?;
            let mut moved = false;
            for _ in 0..self.cursors.len() {
                let number = self.turn % self.cursors.len();
                self.turn = number + 1;
                let cursor = self.cursors[number];
                let (rows, next) = self.shared.fetch(cursor.index, cursor.position, max).await?;
                moved |= next != cursor.position;
                self.cursors[number].position = next;
                if !rows.is_empty() {
                    return Ok(rows.into_iter().map(TableEvent::Row).collect());
                }
            }
            if !moved {
                self.notify.notified().await;
            }
        }
    }
}

#[async_trait]
impl Table for EmbeddedTable {
    async fn next(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError> {
        if self.caught_up { self.follow(max.max(1)).await } else { self.replay(max.max(1)).await }
    }
}

impl Drop for EmbeddedTable {
    fn drop(&mut self) {
        self.shared.unlisten(self.cursors.iter().map(|cursor| cursor.index), &self.notify);
    }
}
