//! How the node is doing, and backups of its log.

use axum::Json;
use axum::extract::State;
use eventlog::View;

use super::request::{Actor, Body};
use crate::api::{BackupAnswer, DirectoryRequest, GroupLag, StatusAnswer, ViewStatus};
use crate::writer::version_of;
use crate::{Context, Error, export, trimming};

pub async fn status(State(context): State<Context>) -> Result<Json<StatusAnswer>, Error> {
    let reason = (context.obstacle)();
    let mut lag = Vec::new();
    for (group, topics) in &context.config.groups {
        for topic in topics {
            let records = context.log.lag(group, *topic).await.ok();
            lag.push(GroupLag { group: group.clone(), topic: *topic, records });
        }
    }
    let views = vec![
        view("settings", &context.settings),
        view("senders", &context.senders),
        view("queue", &context.queue),
        view("quarantine", &context.quarantine),
    ];
    let queue = context.queue.read();
    Ok(Json(StatusAnswer {
        node: context.config.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        accepting: reason.is_none(),
        reason,
        settings_version: version_of(&context.settings.read()),
        cluster_key: context.writer.cluster_key().fingerprint().into(),
        views,
        lag,
        queue_entries: queue.entries().count() as u64,
        queue_recipients: queue.entries().map(|entry| entry.recipients.len() as u64).sum(),
        queue_oldest: queue.entries().map(|entry| entry.queued_at).min(),
        unattended_lanes: trimming::unattended(queue.entries(), context.clock.now()).into_iter().collect(),
        quarantined: context.quarantine.read().held(),
    }))
}

fn view<T: Send + Sync + 'static>(name: &str, view: &View<T>) -> ViewStatus {
    let progress = *view.changes().borrow();
    ViewStatus { name: name.into(), caught_up: progress.caught_up, records: progress.records }
}

pub async fn backup(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<DirectoryRequest>,
) -> Result<Json<BackupAnswer>, Error> {
    let Some(hook) = &context.backup else {
        return Err(Error::invalid(
            "this node's log cannot be copied to a directory",
            "back up the brokers: only the embedded log is a directory of this node",
        ));
    };
    let dir = request.dir;
    export::prepare(&dir)?;
    hook(dir.clone()).await?;
    tracing::info!(by, dir = %dir.display(), "log backed up");
    Ok(Json(BackupAnswer { dir }))
}
