//! SQLite: the suite, and files that are deleted, locked, damaged, full or of another version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reporter::store::sqlite::SqliteStore;
use reporter::store::{Batch, Covered, Inserted};
use reporter::{Error, StatsStore};
use schemas::Topic;
use schemas::attempt::Outcome;
use schemas::topics::TopicPartition;
use schemas::verdict::Classification;

use crate::events::{Events, attempt, judged, summary};
use crate::suite;

struct File {
    directory: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        File { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("statistics.sqlite")
    }

    fn open(&self) -> Arc<dyn StatsStore> {
        open(&self.path())
    }
}

fn open(path: &Path) -> Arc<dyn StatsStore> {
    Arc::new(SqliteStore::open(path).unwrap())
}

fn message(number: u32) -> Events {
    let message = summary(number, Classification::Clean);
    let mut events = Events::default();
    events.verdict(&judged(&message, &["a@one.example"]));
    events.attempt(&attempt(&message, 1, Outcome::Delivered, &[(0, "a@one.example")]));
    events
}

#[test]
fn follows_the_rules_of_every_store() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    suite::all(
        &|| {
            count.set(count.get() + 1);
            open(&directory.path().join(format!("{}.sqlite", count.get())))
        },
        48,
    );
}

#[test]
fn what_was_taken_is_there_after_opening_again() {
    let file = File::new();
    suite::take(&file.open(), &message(1).batch());
    let store = file.open();
    suite::take(&store, &message(1).batch());
    let sums = suite::sums(&store);
    assert_eq!((sums.messages, sums.delivered, suite::lines(&store).len()), (1, 1, 1));
}

/// A log that was moved to another engine is read from its start: nothing counts twice, and a trace finds its events.
#[test]
fn an_event_at_another_place_counts_once_and_is_found_there() {
    let file = File::new();
    let store = file.open();
    suite::take(&store, &message(1).batch());
    let mut moved = message(1).batch();
    for change in &mut moved.changes {
        change.position.partition = 5;
        change.position.offset += 1000;
    }
    moved.covered.clear();
    suite::take(&store, &moved);
    let sums = suite::sums(&store);
    assert_eq!((sums.messages, sums.delivered, suite::lines(&store).len()), (1, 1, 1));
    let id = summary(1, Classification::Clean).id.to_string();
    let events = store.events(&id).unwrap();
    assert!(events.len() == 2 && events.iter().all(|(_, at)| at.partition == 5 && at.offset >= 1000));
}

#[test]
fn a_deleted_file_is_noticed_while_it_is_open() {
    let file = File::new();
    let store = file.open();
    suite::take(&store, &message(1).batch());
    assert_eq!(suite::lines(&store).len(), 1);
    std::fs::remove_file(file.path()).unwrap();
    let at = TopicPartition { topic: Topic::Verdicts, partition: 0 };
    let next = Batch { changes: Vec::new(), covered: vec![Covered { at, from: 1, next: 2 }] };
    assert_eq!(store.insert(&next).unwrap(), Inserted::Behind);
    assert!(store.offsets().unwrap().is_empty());
    assert!(suite::lines(&store).is_empty());
    suite::take(&store, &message(1).batch());
    suite::take(&store, &next);
    drop(store);
    assert_eq!(suite::lines(&file.open()).len(), 1);
}

#[test]
fn a_locked_database_takes_nothing_and_later_everything() {
    let file = File::new();
    let store = file.open();
    let other = rusqlite::Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(store.insert(&message(1).batch()), Err(Error::Store(_))));
    assert!(suite::lines(&store).is_empty(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    suite::take(&store, &message(1).batch());
}

#[test]
fn a_missing_directory_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later/statistics.sqlite");
    let store = open(&path);
    assert!(matches!(store.insert(&message(1).batch()), Err(Error::Store(_))));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    suite::take(&store, &message(1).batch());
}

#[test]
fn a_damaged_file_is_told_with_what_to_do_and_is_left_alone() {
    let file = File::new();
    std::fs::write(file.path(), b"no database at all, but something of somebody's".repeat(200)).unwrap();
    let before = std::fs::read(file.path()).unwrap();
    let store = file.open();
    let error = store.insert(&message(1).batch()).unwrap_err().to_string();
    assert!(error.contains("move the file away") && error.contains("statistics.sqlite"), "{error}");
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
    std::fs::rename(file.path(), file.path().with_extension("away")).unwrap();
    suite::take(&store, &message(1).batch());
}

#[test]
fn a_failure_in_the_middle_of_a_batch_takes_nothing_of_it() {
    let file = File::new();
    let store = file.open();
    suite::take(&store, &message(1).batch());
    // As a disk that is full when the rows are in and the sums are not.
    let other = rusqlite::Connection::open(file.path()).unwrap();
    other
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON hourly BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    assert!(matches!(store.insert(&message(2).batch()), Err(Error::Store(_))));
    assert_eq!(suite::lines(&store).len(), 1);
    other.execute_batch("DROP TRIGGER full").unwrap();
    suite::take(&store, &message(2).batch());
    assert_eq!((suite::lines(&store).len(), suite::sums(&store).messages), (2, 2));
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let file = File::new();
    drop(file.open());
    rusqlite::Connection::open(file.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&file.path()).err().unwrap().to_string();
    assert!(error.contains("newer version") && error.contains("schema 99"), "{error}");
}

/// Killed anywhere, the database is as of some batch, rows, sums and offsets together.
#[test]
fn a_copy_of_the_files_at_any_moment_is_consistent() {
    let file = File::new();
    let store = file.open();
    for number in 1..20 {
        suite::take(&store, &message(number).batch());
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(file.directory.path()).unwrap().flatten() {
            if !entry.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let copied = open(&copy.path().join("statistics.sqlite"));
        let sums = suite::sums(&copied);
        let rows = suite::lines(&copied).len() as u64;
        assert_eq!((sums.recipients, sums.delivered), (rows, rows));
        assert_eq!(rows, u64::from(number));
    }
}
