//! fjall's journals as files, for what fjall leaves to us.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a journal is called while it is copied; no name that fjall reads.
const PARTIAL: &str = "partial";
const BLOCK_BYTES: usize = 1 << 20;

/// Writes every journal of the log in `dir` anew, from what reads of it give now, and makes that durable. After a failed
/// fsync the kernel takes pages for clean that never came to the disk: reads still give them, later syncs pass over them,
/// and what is appended behind them would be lost with them when the power fails. The database must be closed.
///
/// # Errors
/// No room, or the disk still fails. Every journal is then there, the old one or the new one.
pub(super) fn write_anew(dir: &Path) -> io::Result<()> {
    let data = dir.join("data");
    for journal in with_extension(&data, "jnl")? {
        let partial = journal.with_extension(PARTIAL);
        let copied = copy(&journal, &partial).and_then(|()| fs::rename(&partial, &journal));
        if copied.is_err() {
            // Only takes room; the next try writes over it.
            let _ = fs::remove_file(&partial);
        }
        copied?;
    }
    File::open(&data)?.sync_all()
}

/// Removes copies that a crash interrupted: they only take room.
pub(super) fn remove_leftovers(dir: &Path) {
    for partial in with_extension(&dir.join("data"), PARTIAL).unwrap_or_default() {
        if let Err(error) = fs::remove_file(&partial) {
            tracing::warn!(file = %partial.display(), %error, "what is left of a journal's copy cannot be removed");
        }
    }
}

fn with_extension(data: &Path, wanted: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match data.read_dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == wanted) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Block by block through memory: what the standard library offers may share the blocks on disk instead, which are the
/// ones in doubt. Blocks of zeros stay holes, as journals are made with room ahead.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let length = from.metadata()?.len();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            break;
        }
        if block[..read].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(read as i64))?;
        } else {
            to.write_all(&block[..read])?;
        }
    }
    to.set_len(length)?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_journal_becomes_another_file_of_the_same_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        fs::create_dir(&data).expect("is made");
        let mut content = vec![7; BLOCK_BYTES + 9];
        content.resize(4 * BLOCK_BYTES + 5, 0);
        let journal = data.join("3.jnl");
        fs::write(&journal, &content).expect("is written");
        fs::write(data.join("version"), "3").expect("is written");
        let before = journal.metadata().expect("is there").ino();
        write_anew(directory.path()).expect("is written anew");
        assert_ne!(journal.metadata().expect("is there").ino(), before);
        assert!(fs::read(&journal).expect("reads") == content);
        fs::write(data.join("4.partial"), "of a copy that a crash interrupted").expect("is written");
        remove_leftovers(directory.path());
        assert_eq!(data.read_dir().expect("reads").count(), 2, "nothing else is left there");
    }

    #[test]
    fn a_journal_that_cannot_be_written_anew_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        // In the way of the copy.
        fs::create_dir_all(data.join("3.partial")).expect("is made");
        fs::write(data.join("3.jnl"), "content").expect("is written");
        write_anew(directory.path()).expect_err("it cannot be written");
        assert_eq!(fs::read(data.join("3.jnl")).expect("reads"), b"content");
    }
}
