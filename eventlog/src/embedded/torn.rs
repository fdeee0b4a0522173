//! The batch that a power failure tore.
//!
//! A batch is acknowledged after its fsync. When the power fails before, any of its blocks may be on disk and others not,
//! also its end without its middle. fjall 3.1 leaves out a last batch without an end, but does not open when there is an
//! end whose checksum does not match. Such a batch was acknowledged to nobody, if it is the last one: it is left out, too.
//! This reads the journal as fjall writes it: start (count, sequence number), items, end (checksum of the items, trailer).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Before an item's key: type, compression, keyspace, lengths of the key, of the value, of the value as stored.
const ITEM_HEAD_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;
/// Larger than any value.
const MAX_VALUE_BYTES: u32 = 64 << 20;

/// Cuts the newest journal of the log in `dir` before its last batch, if that one and no other is damaged. Says where the
/// journal as it was is kept. The database must be closed.
pub(super) fn leave_out_torn_batch(dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some((number, journal)) = newest_journal(&dir.join("data"))? else { return Ok(None) };
    let Some(at) = torn_at(BufReader::new(File::open(&journal)?))? else { return Ok(None) };
    let kept = dir.join(format!("torn.{number}.jnl"));
    fs::copy(&journal, &kept)?;
    File::open(&kept)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    let journal = OpenOptions::new().write(true).open(&journal)?;
    journal.set_len(at)?;
    journal.sync_all()?;
    Ok(Some(kept))
}

fn newest_journal(data: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    for entry in data.read_dir()? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        newest = newest.max(number.map(|number: u64| (number, path)));
    }
    Ok(newest)
}

/// Where the last batch begins, if its checksum does not match and that of every other one does.
fn torn_at(journal: impl Read) -> io::Result<Option<u64>> {
    let mut journal = Journal { from: journal, position: 0 };
    loop {
        let begins = journal.position;
        match journal.batch() {
            Ok(Some(true)) => {}
            Ok(Some(false)) => {
                let is_last = batch_or_end(journal.batch())?.is_none();
                return Ok(is_last.then_some(begins));
            }
            other => return batch_or_end(other).map(|_| None),
        }
    }
}

/// Where the journal ends in the midst of a batch, there is none.
fn batch_or_end(batch: io::Result<Option<bool>>) -> io::Result<Option<bool>> {
    match batch {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

struct Journal<R> {
    from: R,
    position: u64,
}

impl<R: Read> Journal<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// Reads one batch: whether its checksum matches. None: what follows is no batch.
    fn batch(&mut self) -> io::Result<Option<bool>> {
        if self.bytes()? != [START] {
            return Ok(None);
        }
        let count = u32::from_le_bytes(self.bytes()?);
        let _sequence_number: [u8; 8] = self.bytes()?;
        let mut items = Xxh3::new();
        for _ in 0..count {
            if !self.item(&mut items)? {
                return Ok(None);
            }
        }
        if self.bytes()? != [END] {
            return Ok(None);
        }
        let checksum = u64::from_le_bytes(self.bytes()?);
        let has_trailer = self.bytes()? == TRAILER;
        Ok(has_trailer.then(|| items.digest() == checksum))
    }

    fn item(&mut self, items: &mut Xxh3) -> io::Result<bool> {
        let tag: [u8; 1] = self.bytes()?;
        items.update(&tag);
        match tag {
            [ITEM] => {
                let head: [u8; ITEM_HEAD_BYTES] = self.bytes()?;
                items.update(&head);
                let key = u16::from_le_bytes([head[10], head[11]]);
                let value = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                let length = u64::from(key) + u64::from(value.min(MAX_VALUE_BYTES));
                let mut rest = Vec::new();
                if self.from.by_ref().take(length).read_to_end(&mut rest)? as u64 != length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                self.position += length;
                items.update(&rest);
                Ok(value <= MAX_VALUE_BYTES)
            }
            [CLEAR] => {
                let keyspace: [u8; 8] = self.bytes()?;
                items.update(&keyspace);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    /// A database with batches of values of this letter each, and its journal.
    fn database(dir: &Path, letters: &[u8]) -> PathBuf {
        let db = Database::builder(dir.join("data")).open().expect("opens");
        let keyspace = db.keyspace("one", KeyspaceCreateOptions::default).expect("is made");
        for letter in letters {
            let mut batch = db.batch();
            for number in 0..3 {
                batch.insert(&keyspace, format!("{letter}.{number}"), vec![*letter; 9000]);
            }
            batch.commit().expect("is written");
        }
        db.persist(fjall::PersistMode::SyncAll).expect("is durable");
        dir.join("data/0.jnl")
    }

    /// Writes zeros over a block in the midst of the values of this letter.
    fn tear(journal: &Path, letter: u8) {
        let mut content = fs::read(journal).expect("reads");
        let values = content.windows(9000).position(|window| window.iter().all(|byte| *byte == letter));
        let at = values.expect("is there") + 100;
        content[at..at + 4096].fill(0);
        fs::write(journal, content).expect("is written");
    }

    #[test]
    fn only_the_last_batch_is_left_out() {
        for (torn, is_mended) in [(&b"c"[..], true), (b"b", false), (b"bc", false), (b"", false)] {
            let directory = tempfile::tempdir().expect("a directory");
            let journal = database(directory.path(), b"abc");
            torn.iter().for_each(|letter| tear(&journal, *letter));
            let before = fs::read(&journal).expect("reads");
            let kept = leave_out_torn_batch(directory.path()).expect("is read");
            assert_eq!(kept.is_some(), is_mended, "{torn:?}");
            let Some(kept) = kept else {
                assert!(fs::read(&journal).expect("reads") == before, "nothing is changed");
                continue;
            };
            assert!(fs::read(kept).expect("is kept") == before);
            let db = Database::builder(directory.path().join("data")).open().expect("opens again");
            let keyspace = db.keyspace("one", KeyspaceCreateOptions::default).expect("is there");
            let keys: Vec<_> = keyspace.iter().map(|row| row.key().expect("a key")[0]).collect();
            assert_eq!(keyspace.len().expect("reads"), 6, "{keys:?}");
        }
    }

    #[test]
    fn a_batch_without_an_end_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = database(directory.path(), b"ab");
        let content = fs::read(&journal).expect("reads");
        let end = content.iter().rposition(|byte| *byte != 0).expect("content");
        assert_eq!(torn_at(&content[..end]).expect("is read"), None);
    }
}
