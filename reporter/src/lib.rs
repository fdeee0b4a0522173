//! What happened, told: statistics, the message log, one message's whole story, and feedback reports.
//!
//! `statistics` folds `verdicts` and `attempts` into the store; `feedback` writes a report (ARF) for every message that
//! was blocked as abuse and a `notice` of every lock that nobody set by hand; `queries` answers the CLI and the API.

pub mod arf;
mod error;
pub mod feedback;
mod metrics;
mod notice;
mod patience;
pub mod queries;
pub mod rows;
mod statistics;
pub mod store;
pub mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, View};
use schemas::Mailbox;
use schemas::sealed::ClusterKey;
use schemas::settings::SettingsView;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use metrics::Metrics;
pub use queries::router;
pub use store::{StatsStore, open_store};

/// What the reporter is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    pub hostname: String,
    /// The SQLite file; not used when there is a ClickHouse.
    pub database: PathBuf,
    pub clickhouse: Option<store::clickhouse::Target>,
    /// Where reports go whose domain has no abuse address of its own.
    pub default_abuse_address: Option<Mailbox>,
    /// From of reports.
    pub report_from: Mailbox,
    /// How lock notices link to the page that unlocks; absent: they name the command.
    pub unlock_links: Option<UnlockLinks>,
    /// How long rows are kept.
    pub keep: Duration,
}

/// What makes unlock links.
#[derive(Clone, Debug)]
pub struct UnlockLinks {
    /// Where the page stands, without a slash at the end.
    pub public_url: String,
    pub key: ClusterKey,
}

/// Runs statistics and feedback reports until `shutdown`.
///
/// # Errors
/// None once it runs: a store or log that is away is waited for.
pub async fn run(
    config: Config,
    store: Arc<dyn StatsStore>,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let config = Arc::new(config);
    let statistics = statistics::run(
        Arc::clone(&config),
        store,
        Arc::clone(&log),
        Arc::clone(&clock),
        metrics.clone(),
        shutdown.clone(),
    );
    let feedback = feedback::run(config, log, clock, settings, metrics, shutdown);
    tokio::join!(statistics, feedback);
    Ok(())
}
