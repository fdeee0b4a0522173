//! The embedded engine under test.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Log, ManualClock};
use schemas::topics::Retention;
use schemas::{Timestamp, Topic};
use tempfile::TempDir;

use crate::engine::Engine;

pub struct EmbeddedEngine {
    dir: TempDir,
    clock: ManualClock,
    log: Option<Arc<EmbeddedLog>>,
}

impl EmbeddedEngine {
    pub fn new() -> Self {
        EmbeddedEngine {
            dir: tempfile::tempdir().expect("a temporary directory"),
            clock: ManualClock::starting_at(Timestamp(1_795_512_600_000)),
            log: None,
        }
    }

    fn open_dir(&mut self) -> Log {
        let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(self.dir.path()) };
        let log = EmbeddedLog::open(config, Arc::new(self.clock.clone())).expect("opens");
        self.log = Some(Arc::clone(&log));
        log
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn open(&mut self) -> Log {
        self.open_dir()
    }

    async fn reopen(&mut self, log: Log) -> Log {
        log.close().await;
        self.open_dir()
    }

    async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.log.as_ref().expect("open").enforce_retention().await.expect("retention");
    }

    async fn outlive(&mut self, _: &Log, topic: Topic) {
        let Retention::Time(kept) = topic.retention() else { panic!("{topic} is compacted") };
        // Twice: what is dropped are runs of records, and a run ends some time after it began.
        self.pass(2 * kept).await;
    }
}
