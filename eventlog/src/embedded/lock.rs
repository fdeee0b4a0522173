//! The lock file: one process owns the directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::LogError;

const LOCK_FILE: &str = "owner.lock";

/// Held while the log is open; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the directory for this process.
    pub(super) fn take(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(LOCK_FILE);
        let failed = |error: std::io::Error| LogError::Unavailable(format!("{}: {error}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(DirectoryLock { _file: file })
    }
}

fn taken(dir: &Path, file: &mut File) -> LogError {
    let mut owner = String::new();
    // Only for the message: without a readable pid it says less.
    let _ = file.read_to_string(&mut owner);
    let owner = owner.trim();
    LogError::Unavailable(format!(
        "the log in {} is in use by process {}; one process at a time may own it",
        dir.display(),
        if owner.is_empty() { "(unknown)" } else { owner }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_directory_names_itself_and_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        let error = DirectoryLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        DirectoryLock::take(dir.path()).unwrap();
    }
}
