//! Joins the log, reads the lane and has the worker begin; anew whenever it lost its place.
//!
//! Two consumers: `released` moves with what it took, the lane's with everything that happens to queue entries.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, LogError, View};
use schemas::Topic;
use schemas::senders::SendersView;
use schemas::settings::SettingsView;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::dkim::Signers;
use crate::dns::Dns;
use crate::lane::{Lane, State};
use crate::lane_rows;
use crate::message::Press;
use crate::tls::ClientTls;
use crate::users::Users;
use crate::worker::{DRAIN, Worker};
use crate::{Config, Error, Metrics, consumer};

/// Before the worker begins anew after it lost its place.
const REJOIN: Duration = Duration::from_secs(1);

/// Runs until `shutdown`.
///
/// # Errors
/// When the resolver cannot be set up or the root certificates cannot be read. A log that is away is waited for.
pub async fn run(
    config: Config,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    senders: View<SendersView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let press = Arc::new(Press {
        dns: Dns::new(&config)?,
        tls: ClientTls::new(config.tls_roots_file.as_deref())?,
        clock,
        users: Users::default(),
        signers: Signers::default(),
        config,
        log,
        settings,
        senders,
    });
    while !shutdown.is_cancelled() {
        let served = tokio::select! {
            served = serve(&press, &metrics, &shutdown) => served,
            () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN * 2).await } => return Ok(()),
        };
        match served {
            Ok(()) | Err(LogError::Closed) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "delivery lost its place and begins anew");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(REJOIN) => {}
                }
            }
        }
    }
    Ok(())
}

async fn serve(press: &Arc<Press>, metrics: &Metrics, shutdown: &CancellationToken) -> Result<(), LogError> {
    let node = press.config.node.clone();
    press.settings.caught_up().await;
    press.senders.caught_up().await;
    // The lane's consumer first: it fences a predecessor, whose last commit is then in the table.
    let lane_group = format!("lane-{node}");
    let lane_consumer = consumer::start(press.log.join(&lane_group, &node, &[Topic::Commands]).await?);
    let mut lane = Lane::default();
    let (entries, arrivals) = lane_rows::read(&press.log, &node, metrics).await?;
    entries.into_iter().for_each(|entry| lane.put(entry, State::Resting));
    let released = consumer::start(press.log.join("delivery", &node, &[Topic::Released]).await?);
    metrics.queued.set(lane.len() as i64);
    tracing::info!(entries = lane.len(), "lane read, delivery begins");
    let (results, tried) = mpsc::unbounded_channel();
    let worker = Worker::new(Arc::clone(press), metrics.clone(), lane, results);
    Box::pin(worker.work(released, lane_consumer, arrivals, tried, shutdown)).await
}
