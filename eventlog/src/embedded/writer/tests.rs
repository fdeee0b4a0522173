//! The writer without its thread, stepped by hand.

use std::os::unix::fs::MetadataExt;

use schemas::Topic;
use tokio::sync::{Semaphore, oneshot};

use super::super::config::EmbeddedConfig;
use super::*;
use crate::{Clock as _, ManualClock, NewRecord};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CATALOGUE_BYTES: u64 = 256 * 1024;
const GRACE: Duration = Duration::from_secs(600);

struct Rig {
    writer: Writer,
    clock: ManualClock,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EmbeddedConfig {
            min_free_bytes: 0,
            catalogue_bytes: CATALOGUE_BYTES,
            ..EmbeddedConfig::new(directory.path())
        };
        let clock = ManualClock::starting_at(Timestamp(1_795_512_600_000));
        let lock = DirectoryLock::take(directory.path()).expect("is free");
        let store = Store::open(&config).expect("opens");
        let shared = Shared::new(store, config, Arc::new(clock.clone())).expect("is read");
        Rig { writer: Writer::new(Arc::new(shared), lock), clock, _directory: directory }
    }

    /// Appends one record; its offset.
    fn append(&mut self, topic: Topic) -> u64 {
        let record = NewRecord::new(topic, "", "key", "value").in_partition(0);
        let (reply, mut answer) = oneshot::channel();
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        self.writer.serve([Request::Append { records: vec![record], reply, room }].into());
        answer.try_recv().expect("an answer").expect("is written")[0].offset
    }

    fn is_kept(&self, topic: Topic, offset: u64) -> bool {
        let index = self.writer.shared.layout.index(TopicPartition { topic, partition: 0 }).expect("a place");
        self.writer.shared.with_store(|store| store.get(index, offset)).expect("reads").is_some()
    }

    fn reopen(&mut self) {
        let reopen = self.writer.reopen.expect("it is down");
        self.writer.reopen(reopen);
        self.writer.shared.up().expect("it is up again");
    }

    /// A message of `quarantined` that is past its retention stays at first, and goes when the grace is over.
    fn goes_after_the_grace(&mut self, queued: u64) {
        self.writer.tick();
        assert!(self.is_kept(Topic::Quarantined, queued), "nobody could write it anew yet");
        self.clock.advance(GRACE);
        self.writer.tick();
        assert!(!self.is_kept(Topic::Quarantined, queued));
    }
}

#[test]
fn retention_waits_for_the_queue_after_the_log_was_away() {
    let mut rig = Rig::new();
    let queued = rig.append(Topic::Quarantined);
    // Retention is due, and the log is away for less than the grace.
    rig.clock.advance(40 * DAY);
    rig.writer.tick();
    rig.writer.next_retention = rig.clock.now();
    rig.writer.fail(&LogError::Unavailable("a test".into()));
    rig.clock.advance(Duration::from_secs(60));
    rig.reopen();
    rig.goes_after_the_grace(queued);
}

#[test]
fn retention_waits_for_the_queue_after_the_machine_stood_still() {
    let mut rig = Rig::new();
    let queued = rig.append(Topic::Quarantined);
    rig.clock.advance(40 * DAY);
    rig.goes_after_the_grace(queued);
}

#[test]
fn the_lives_of_many_epochs_leave_little_behind() {
    let mut rig = Rig::new();
    let settings = rig.append(Topic::Settings);
    for number in 0..120 {
        assert_eq!(rig.append(Topic::Replies), number);
        rig.clock.advance(DAY);
        rig.writer.enforce_retention().expect("retention");
        rig.writer.shared.up().expect("nothing failed");
        assert!(!rig.is_kept(Topic::Replies, number));
        let size = catalogue::size_bytes(&rig.writer.shared.config.directory);
        assert!(size <= 4 * catalogue::TIDY_FROM_BYTES, "{size} bytes after {number} lives");
    }
    assert!(rig.writer.shared.opened.load(Ordering::Relaxed) > 2);
    rig.writer.renew();
    let size = catalogue::size_bytes(&rig.writer.shared.config.directory);
    assert!(size < catalogue::TIDY_FROM_BYTES, "{size} bytes once it is tidied");
    assert!(rig.is_kept(Topic::Settings, settings));
}

#[test]
fn a_log_that_failed_does_not_go_on_with_the_files_that_failed() {
    let mut rig = Rig::new();
    let before = rig.append(Topic::Accepted);
    let journal = rig.writer.shared.config.directory.join("data/0.jnl");
    let inode = || journal.metadata().expect("is there").ino();
    let failed = inode();
    rig.writer.fail(&LogError::Unavailable("a test".into()));
    rig.reopen();
    assert_ne!(inode(), failed);
    assert!(rig.is_kept(Topic::Accepted, before));
    let after = rig.append(Topic::Accepted);
    assert!(rig.is_kept(Topic::Accepted, after));
}
