//! Connections to the file, opened when they are needed and again when they failed or the file was replaced.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::Error;

/// What brings a database from each version to the next.
const MIGRATIONS: [&str; 1] = [include_str!("../../../../schemas/sql/sqlite.sql")];
/// How long another process may hold the write lock before the call fails.
const BUSY: Duration = Duration::from_secs(5);

/// A connection, or none until the next use.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Open>>);

struct Open {
    connection: Connection,
    /// Device and inode of the file, to notice that it was deleted or replaced: SQLite itself would go on writing into
    /// a file that has no name any more.
    file: (u64, u64),
}

impl Slot {
    /// Runs `work`. A failure closes the connection, so that the next call begins afresh.
    pub(super) fn with<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|open| file_at(path).ok() != Some(open.file)) {
            tracing::warn!(database = %path.display(), "the statistics database is not the file that was opened, opening anew");
            *slot = None;
        }
        let open = match slot.as_mut() {
            Some(open) => open,
            None => slot.insert(connect(path)?),
        };
        let result = work(&mut open.connection);
        if matches!(result, Err(Error::Store(_))) {
            *slot = None;
        }
        result
    }
}

fn file_at(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn connect(path: &Path) -> Result<Open, Error> {
    let told = |error: rusqlite::Error| Error::Store(describe(path, &error));
    let mut connection = Connection::open(path).map_err(told)?;
    prepare(&connection).map_err(told)?;
    migrate(&mut connection, path, told)?;
    let file = file_at(path).map_err(|error| Error::Store(format!("{}: {error}", path.display())))?;
    Ok(Open { connection, file })
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The log is the truth: what a crash takes is read from there again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // KiB, negative by SQLite's convention: the inner pages of the indexes stay in memory.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The reader and the writer may both find a new file: the lock is taken before the version is read.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    told: impl Fn(rusqlite::Error) -> Error,
) -> Result<(), Error> {
    let version_of = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
    };
    let known = MIGRATIONS.len() as i64;
    if version_of(connection).map_err(&told)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&told)?;
    let version = version_of(&transaction).map_err(&told)?;
    if version > known {
        return Err(Error::Query(format!(
            "{} was written by a newer version (schema {version}, this one knows {known}): run that version, or move the file away to have it made again from the log",
            path.display()
        )));
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(&told)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(&told)?;
    transaction.commit().map_err(told)
}

/// Says what to do where waiting does not help.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            format!("{}: {error}: move the file away, it is made again from the log", path.display())
        }
        _ => format!("{}: {error}", path.display()),
    }
}
