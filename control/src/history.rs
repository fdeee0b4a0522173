//! The newest changes of settings, followed from `changes` into a bounded ring.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use eventlog::{Log, LogError, Record, TailFrom};
use schemas::settings::Change;
use schemas::{Timestamp, Topic};
use tokio_util::sync::CancellationToken;

/// Changes that are kept, at most; older ones stay in the log.
const MAX_CHANGES: usize = 20_000;
/// Their size in the log, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const PAUSE: Duration = Duration::from_secs(1);

/// The ring; clones share it.
#[derive(Clone, Default)]
pub struct History {
    ring: Arc<RwLock<Ring>>,
}

#[derive(Default)]
struct Ring {
    changes: VecDeque<(usize, Change)>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, size: usize, change: Change) {
        self.bytes += size;
        self.changes.push_back((size, change));
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some((size, _)) = self.changes.pop_front() else { return };
            self.bytes -= size;
        }
    }
}

impl History {
    /// Follows `changes` from its start until `shutdown`. An unavailable log is tried again.
    #[must_use]
    pub fn follow(log: Log, shutdown: CancellationToken) -> Self {
        let history = History::default();
        let ring = Arc::clone(&history.ring);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = run(&log, &ring) => {}
            }
        });
        history
    }

    /// The changes that match, newest first, and how many there are. `key` is a whole key or the beginning of several.
    #[must_use]
    pub fn find(&self, since: Option<Timestamp>, key: Option<&str>, limit: usize) -> (Vec<Change>, u64) {
        let ring = self.ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let matches = |change: &&Change| {
            since.is_none_or(|since| change.at >= since) && key.is_none_or(|key| change.key.starts_with(key))
        };
        let found: Vec<&Change> =
            ring.changes.iter().rev().map(|(_, change)| change).filter(matches).collect();
        (found.iter().take(limit).map(|change| (*change).clone()).collect(), found.len() as u64)
    }
}

async fn run(log: &Log, ring: &RwLock<Ring>) {
    let mut next = 0;
    loop {
        match follow_from(log, ring, &mut next).await {
            LogError::Closed => return,
            error => {
                tracing::warn!(%error, "changes cannot be read, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn follow_from(log: &Log, ring: &RwLock<Ring>, next: &mut u64) -> LogError {
    let mut tail = match log.tail(Topic::Changes, 0, TailFrom::Offset(*next)).await {
        Ok(tail) => tail,
        Err(error) => return error,
    };
    loop {
        match tail.next(1000).await {
            Ok(records) => {
                *next = records.last().map_or(*next, |record| record.position.offset + 1);
                take(ring, &records);
            }
            Err(error) => return error,
        }
    }
}

fn take(ring: &RwLock<Ring>, records: &[Record]) {
    let mut ring = ring.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    for record in records {
        let Some(value) = &record.value else { continue };
        match serde_json::from_slice(value) {
            Ok(change) => ring.push(value.len(), change),
            Err(error) => {
                tracing::error!(position = %record.position, %error, "a change does not parse, it is passed over");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: i64) -> Change {
        Change {
            key: format!("domain/d{n}.example"),
            at: Timestamp(n),
            by: "t".into(),
            before: None,
            after: None,
        }
    }

    #[test]
    fn the_newest_stay() {
        let history = History::default();
        for n in 0..MAX_CHANGES as i64 + 5 {
            history.ring.write().unwrap().push(10, change(n));
        }
        let (found, total) = history.find(Some(Timestamp(20_000)), None, 2);
        assert_eq!((found.len(), total, found[0].at), (2, 5, Timestamp(20_004)));
        assert_eq!(history.find(None, None, 1).1, MAX_CHANGES as u64);
        assert_eq!(history.find(None, Some("domain/d20001"), 9).1, 1);
        history.ring.write().unwrap().push(MAX_BYTES - 5, change(1));
        assert_eq!(history.find(None, None, 1).1, 1);
    }
}
