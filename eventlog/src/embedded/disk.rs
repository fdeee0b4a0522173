//! How much room the disk has.

use std::path::Path;

/// Bytes that an ordinary user may still write to the file system of `dir`; none when it cannot be told.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "free disk space cannot be told");
            None
        }
    }
}
