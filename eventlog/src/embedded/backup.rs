//! A copy of the whole log, as of one moment, while writing goes on: every keyspace read under one snapshot.

use std::path::Path;

use fjall::{Database, PersistMode, Readable};

use super::store::{Shared, open_database, record_options, small_options, unavailable};
use crate::LogError;

/// Bytes written to the copy between two batches.
const BATCH_BYTES: usize = 4 << 20;

pub(super) fn copy(shared: &Shared, directory: &Path) -> Result<(), LogError> {
    if directory.exists() {
        return Err(unavailable(format!(
            "{} exists already: give a directory that does not",
            directory.display()
        )));
    }
    let store = shared.store()?;
    // Names first: an epoch cut after the snapshot is not in it, one dropped after it is still readable through it.
    let keyspaces = store.db.list_keyspace_names();
    let snapshot = store.db.snapshot();
    let target = open_database(directory)?;
    for name in keyspaces {
        if !store.db.keyspace_exists(&name) {
            continue;
        }
        let options = || if name.starts_with("r-") { record_options() } else { small_options() };
        let from = store.db.keyspace(&name, options).map_err(unavailable)?;
        let to = target.keyspace(&name, options).map_err(unavailable)?;
        let mut batch = target.batch();
        let mut bytes = 0;
        for guard in snapshot.iter(&from) {
            let (key, value) = guard.into_inner().map_err(unavailable)?;
            bytes += key.len() + value.len();
            batch.insert(&to, key, value);
            if bytes >= BATCH_BYTES {
                std::mem::replace(&mut batch, target.batch()).commit().map_err(unavailable)?;
                bytes = 0;
            }
        }
        batch.commit().map_err(unavailable)?;
    }
    sync(&target)
}

fn sync(target: &Database) -> Result<(), LogError> {
    target.persist(PersistMode::SyncAll).map_err(unavailable)
}
