//! Free space under the log's directory, looked at no more than once a second.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last look, cheap to ask.
pub(super) struct Space {
    opened: Instant,
    looked_ms: AtomicU64,
    free_bytes: AtomicU64,
}

impl Space {
    pub(super) fn new(directory: &Path) -> Self {
        Space {
            opened: Instant::now(),
            looked_ms: AtomicU64::new(0),
            free_bytes: AtomicU64::new(look(directory)),
        }
    }

    pub(super) fn free_bytes(&self, directory: &Path) -> u64 {
        const INTERVAL: Duration = Duration::from_secs(1);
        let now = self.opened.elapsed().as_millis() as u64;
        let last = self.looked_ms.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= INTERVAL.as_millis() as u64
            && self.looked_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.free_bytes.store(look(directory), Ordering::Relaxed);
        }
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// Bytes free to us; a file system that cannot be asked counts as full.
fn look(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
