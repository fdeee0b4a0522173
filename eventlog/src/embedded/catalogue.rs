//! fjall's own tree of the keyspaces there are, `data/keyspaces/0`.
//!
//! fjall 3.1 writes the whole of it anew whenever a keyspace begins or goes, lets go of no older state of it as long as
//! the database is open, and forgets no keyspace that is gone. Every epoch's life would cost more than the one before,
//! without end. So the tree is tidied before the database is opened, and a database that has been open for many lives is
//! closed and opened again.

use std::path::{Path, PathBuf};

use lsm_tree::{AbstractTree, SeqNo, SequenceNumberCounter};

/// Below this it is not worth it: about so much is needed by the keyspaces that a log can have at a time.
pub(super) const TIDY_FROM_BYTES: u64 = 256 * 1024;
const TABLE_BYTES: u64 = 64 * 1024 * 1024;

fn path(dir: &Path) -> PathBuf {
    dir.join("data").join("keyspaces").join("0")
}

/// What the tree of the log in `dir` takes on disk, in bytes.
pub(super) fn size_bytes(dir: &Path) -> u64 {
    size_of(&path(dir))
}

/// What cannot be looked at is gone, or counts next time.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = dir.read_dir() else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Forgets the keyspaces that are gone, when the tree has this size. The database must be closed. A failure leaves the
/// tree as it was.
pub(super) fn tidy(dir: &Path, from_bytes: u64) {
    let before = size_bytes(dir);
    if before < from_bytes {
        return;
    }
    let counter = SequenceNumberCounter::default;
    // With nothing open, no older state is looked at by anybody.
    let tidied = lsm_tree::Config::new(path(dir), counter(), counter())
        .open()
        .and_then(|tree| tree.major_compact(TABLE_BYTES, SeqNo::MAX));
    match tidied {
        Ok(()) => tracing::info!(before, after = size_bytes(dir), "the tree of keyspaces was tidied, bytes"),
        Err(error) => tracing::warn!(%error, "the tree of keyspaces cannot be tidied, it stays large"),
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    #[test]
    fn keyspaces_that_are_gone_are_forgotten_and_the_others_are_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Database::builder(directory.path().join("data")).open().expect("opens");
        let db = open();
        let mut names = Vec::new();
        for number in 0..10 {
            let name = format!("kept{number}");
            let kept = db.keyspace(&name, KeyspaceCreateOptions::default).expect("is made");
            kept.insert("key", name.clone()).expect("is written");
            names.push(name);
            for _ in 0..3 {
                let gone = db.keyspace("gone", KeyspaceCreateOptions::default).expect("is made");
                db.delete_keyspace(gone).expect("is dropped");
            }
        }
        db.persist(fjall::PersistMode::SyncAll).expect("is durable");
        drop(db);
        let before = size_bytes(directory.path());
        for round in 0..3 {
            tidy(directory.path(), 0);
            let after = size_bytes(directory.path());
            assert!(after < before / 3, "round {round}: {after} of {before}");
            let db = open();
            let mut found: Vec<String> = db.list_keyspace_names().iter().map(ToString::to_string).collect();
            found.sort_unstable();
            names.sort_unstable();
            assert_eq!(found, names);
            for name in &names {
                let keyspace = db.keyspace(name, KeyspaceCreateOptions::default).expect("is there");
                let value = keyspace.get("key").expect("reads").expect("is kept");
                assert_eq!(value, name.as_bytes());
            }
        }
    }
}
