//! Moves the log of a stopped node from one engine to the other (docs/adr/0006).
//!
//! `allowed` says whether it may go on, `carry` what each record becomes over there, `places` where what it points to
//! stands; the rest reads (`source`) and writes (`target`, `groups`, `messages`). What is written before the groups'
//! offsets are set is inert: bodies, and messages that rows point to. Rows and unread records come behind them.

mod allowed;
mod carry;
mod groups;
pub mod marker;
mod messages;
mod moved;
mod places;
mod source;
mod steps;
mod target;

use std::sync::Arc;

use anyhow::Context as _;
use eventlog::kafka::KafkaLog;
use eventlog::{Clock, Log};

use crate::config::Config;
pub use moved::Moved;
use steps::Steps;

/// Moves everything that a node still needs, and its history, from the embedded log of `from` to the Kafka log of `to`.
/// The source is only read; a note in its directory says where it went, and `run` refuses it from then on.
///
/// # Errors
/// When the two do not fit, when the target holds something else, or when either log fails; each says what to do.
pub async fn migrate(from: &Config, to: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Moved> {
    let kafka = allowed::pair(from, to)?;
    allowed::same_key(&from.cluster_key_file, &to.cluster_key_file)?;
    let source = source::open(from, Arc::clone(&clock))?;
    let target = KafkaLog::open(kafka.clone()).await.context("the log of --to cannot be opened")?;
    let target: Log = target;
    let leave_note =
        || marker::leave_behind(&from.data_dir.join("log"), &kafka.brokers.join(", "), clock.now());
    let moved = between(&source, &target, &from.node, clock.as_ref(), leave_note).await;
    target.close().await;
    source.close().await;
    moved
}

/// The same between two open logs, of any engine. `leave_note` makes sure that nobody goes on with the source; from then
/// until the target is marked as done, neither starts.
///
/// # Errors
/// As `migrate`.
pub async fn between(
    source: &Log,
    target: &Log,
    node: &str,
    clock: &dyn Clock,
    leave_note: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Moved> {
    let is_empty = target::is_empty(target).await?;
    let found = marker::read(target).await?;
    let beginning = allowed::begin(found.as_ref(), node, is_empty)?;
    groups::are_free(target, node).await?;
    marker::write(target, node, schemas::migration::MigrationState::Begun, clock.now()).await?;
    let moved = Steps::new(source, target, node, clock.now()).run(beginning).await.context(
        "it stopped half way; the source is as it was. Put this right and give the same command again: it begins anew \
         and nothing counts twice. Until then no node starts on the target",
    )?;
    leave_note()?;
    marker::write(target, node, schemas::migration::MigrationState::Done, clock.now()).await.context(
        "everything was moved, but that could not be noted on the target: give the same command again",
    )?;
    Ok(moved)
}
