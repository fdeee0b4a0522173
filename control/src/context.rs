//! What the routes work with, and how it starts.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, LogError, View};
use schemas::Topic;
use schemas::sealed::ClusterKey;
use schemas::senders::SendersView;
use schemas::settings::SettingsView;
use tokio_util::sync::CancellationToken;

use crate::history::History;
use crate::quarantine_view::{self, QuarantineView};
use crate::queue_view::{self, QueueView};
use crate::trimming;
use crate::writer::SettingsWriter;

/// Copies the log into a directory. Only the engine can do that, so whoever opened it gives the way.
pub type BackupHook =
    Arc<dyn Fn(PathBuf) -> Pin<Box<dyn Future<Output = Result<(), LogError>> + Send>> + Send + Sync>;

/// Why this process takes in no mail now; `None`: it does. Only ingress knows, so whoever wires the roles gives the way.
pub type Obstacle = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What control is told by the configuration of its node.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    /// How long a command may stay unanswered before it is called pending.
    pub command_timeout: Duration,
    /// Consumer groups whose lag `status` tells, with their topics.
    pub groups: Vec<(String, Vec<Topic>)>,
}

impl Config {
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        let node = node.into();
        let groups = vec![
            ("scorer".into(), vec![Topic::Accepted, Topic::Commands, Topic::Attempts]),
            ("delivery".into(), vec![Topic::Released]),
            (format!("lane-{node}"), vec![Topic::Commands]),
            ("reporter".into(), vec![Topic::Verdicts, Topic::Attempts]),
            ("feedback".into(), vec![Topic::Verdicts]),
            ("learner".into(), vec![Topic::Models]),
        ];
        Config { node, command_timeout: Duration::from_secs(10), groups }
    }
}

/// Everything that the routes need; clones share it.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub log: Log,
    pub clock: Arc<dyn Clock>,
    pub settings: View<SettingsView>,
    pub senders: View<SendersView>,
    pub queue: View<QueueView>,
    pub quarantine: View<QuarantineView>,
    pub history: History,
    pub writer: Arc<SettingsWriter>,
    pub backup: Option<BackupHook>,
    pub obstacle: Obstacle,
    pub cluster_key: ClusterKey,
}

/// Starts the views that control follows; they run until `shutdown`. `backup` absent: `POST /v1/backup` says that this
/// engine has none.
// Async because it must run inside a runtime: the views are tasks.
#[allow(clippy::unused_async, clippy::too_many_arguments)]
pub async fn start(
    config: Config,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    senders: View<SendersView>,
    cluster_key: ClusterKey,
    backup: Option<BackupHook>,
    obstacle: Obstacle,
    shutdown: CancellationToken,
) -> Context {
    let queue = queue_view::follow(Arc::clone(&log), shutdown.clone());
    let trims = trimming::run(Arc::clone(&log), Arc::clone(&clock), queue.clone(), shutdown.clone());
    tokio::spawn(trims);
    let writer =
        SettingsWriter::new(Arc::clone(&log), Arc::clone(&clock), settings.clone(), cluster_key.clone());
    Context {
        config: Arc::new(config),
        queue,
        quarantine: quarantine_view::follow(Arc::clone(&log), shutdown.clone()),
        history: History::follow(Arc::clone(&log), shutdown),
        writer: Arc::new(writer),
        log,
        clock,
        settings,
        senders,
        backup,
        obstacle,
        cluster_key,
    }
}
