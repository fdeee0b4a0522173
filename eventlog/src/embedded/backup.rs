//! A consistent copy of the whole log while it runs.
//!
//! The writer stands still while the files are *staged*: linked, not copied, into a directory beside them, which takes
//! milliseconds. fjall never changes a table, blob or version file once it is written; only journals grow, and they are
//! copied. Journals come first: whatever a flush in the background moves from a journal into a table in between is then in
//! both, which opening copes with, and never in neither. A file that vanishes in between belonged to a version of its
//! keyspace that was replaced; that keyspace is staged again. Afterwards the writer goes on, and the staged files are
//! copied to where they are wanted.
//!
//! The last file of a copy is a mark that it is whole. To restore: put the copy where the log's directory was and open it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::queue::Request;
use super::shared::Shared;
use crate::LogError;

/// The file in a backup that is written last: without it, the copy broke off.
pub const MARK: &str = "backup.complete";
const DATA: &str = "data";
const KEYSPACES: &str = "keyspaces";
/// The file that names the version of a keyspace; linked before the files it names.
const CURRENT: &str = "current";
const MAX_TRIES: usize = 20;

/// Where a backup stages its files: within the log, so that they can be linked.
fn staging(dir: &Path) -> PathBuf {
    dir.join("backup.staging")
}

/// Removes what a backup staged that was interrupted: it would keep what retention drops.
pub(super) fn remove_leftover(dir: &Path) {
    if let Err(error) = remove_if_there(&staging(dir)) {
        tracing::warn!(%error, "what an interrupted backup left cannot be removed, it takes room");
    }
}

/// A backup from beginning to end. One at a time: they share the staging directory.
pub(super) async fn run(shared: &Shared, into: &Path) -> Result<(), LogError> {
    let failed = |error: io::Error| LogError::Unavailable(format!("backup: {error}"));
    if into.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(LogError::Unavailable(format!("backup: {} is not empty", into.display())));
    }
    let staged = staging(&shared.config.directory);
    remove_if_there(&staged).map_err(failed)?;
    let stage_into = staged.clone();
    let done = match shared.ask(|reply| Request::Stage { into: stage_into, reply }).await {
        Ok(()) => {
            let (from, into) = (staged.clone(), into.to_owned());
            tokio::task::spawn_blocking(move || copy_whole(&from, &into))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(failed)
        }
        Err(error) => Err(error),
    };
    remove_if_there(&staged).map_err(failed)?;
    done
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_dir_all(dir))
}

/// Links the files of the log in `dir` into `into`, which must not be there. The writer stands still meanwhile.
pub(super) fn stage(dir: &Path, into: &Path) -> Result<(), LogError> {
    let data = dir.join(DATA);
    stage_data(&data, &into.join(DATA))
        .map_err(|error| LogError::Unavailable(format!("backup of {}: {error}", data.display())))
}

fn stage_data(data: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into.join(KEYSPACES))?;
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            // A journal that is gone by now was flushed into tables, which follow.
            gone_is_fine(fs::copy(entry.path(), into.join(entry.file_name())).map(|_| ()))?;
        }
    }
    for entry in fs::read_dir(data.join(KEYSPACES))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            stage_keyspace(&entry.path(), &into.join(KEYSPACES).join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn stage_keyspace(from: &Path, into: &Path) -> io::Result<()> {
    for _ in 0..MAX_TRIES {
        match link_keyspace(from, into) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_dir_all(into)?,
            other => return other,
        }
        if !from.join(CURRENT).try_exists()? {
            // A dropped keyspace whose files are on their way out.
            return Ok(());
        }
    }
    Err(io::Error::other(format!("{} does not stand still", from.display())))
}

/// Links a keyspace. Succeeds only when the version it began with is still the current one at the end: then all its
/// files were there.
fn link_keyspace(from: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let current = fs::read(from.join(CURRENT))?;
    link_tree(from, into)?;
    fs::write(into.join(CURRENT), &current)?;
    if fs::read(from.join(CURRENT))? != current {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(())
}

fn link_tree(from: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else if entry.file_name() != CURRENT {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies what was staged to `into`, makes it durable, and marks it. May take long.
fn copy_whole(staged: &Path, into: &Path) -> io::Result<()> {
    copy_staged(staged, into)?;
    fs::File::create(into.join(MARK))?.sync_all()?;
    fs::File::open(into)?.sync_all()
}

fn copy_staged(staged: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    for entry in fs::read_dir(staged)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_staged(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    fs::File::open(into)?.sync_all()
}
