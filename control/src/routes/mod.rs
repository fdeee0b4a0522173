//! The routes over a [`Context`]. Every refusal is JSON with what is wrong and what to do about it.

mod dkim;
mod model;
mod params;
mod quarantine;
mod queue;
mod request;
mod senders;
mod settings;
mod status;
mod unlock_page;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::Context;

pub use model::read as read_models;
pub use unlock_page::unlock_pages;

/// Largest request, in bytes: a settings file with tens of thousands of users.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Rows of one page, at most.
const MAX_LIMIT: usize = 1000;

/// Every route of control, to be served on the local socket. It has no fallback, so that it can be merged with others.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/settings", get(settings::show))
        .route("/v1/settings/plan", post(settings::plan))
        .route("/v1/settings/apply", post(settings::apply))
        .route("/v1/changes", get(settings::changes))
        .route("/v1/dkim", get(dkim::list))
        .route("/v1/dkim/generate", post(dkim::generate))
        .route("/v1/dkim/import", post(dkim::import))
        .route("/v1/dkim/remove", post(dkim::remove))
        .route("/v1/model", get(model::show))
        .route("/v1/model/rollback", post(model::roll_back))
        .route("/v1/identities", get(senders::identities))
        .route("/v1/held", get(senders::held))
        .route("/v1/lock", post(senders::lock))
        .route("/v1/unlock", post(senders::unlock))
        .route("/v1/reset", post(senders::reset))
        .route("/v1/quarantine", get(quarantine::list))
        .route("/v1/quarantine/{id}", get(quarantine::details))
        .route("/v1/quarantine/{id}/eml", get(quarantine::eml))
        .route("/v1/quarantine/release", post(quarantine::release))
        .route("/v1/quarantine/confirm", post(quarantine::confirm))
        .route("/v1/quarantine/remove", post(quarantine::remove))
        .route("/v1/queue", get(queue::list))
        .route("/v1/queue/retry", post(queue::retry))
        .route("/v1/queue/hold", post(queue::hold))
        .route("/v1/queue/resume", post(queue::resume))
        .route("/v1/queue/remove", post(queue::remove))
        .route("/v1/queue/reroute", post(queue::reroute))
        .route("/v1/queue/export", post(queue::export))
        .route("/v1/lane/move", post(queue::move_lane))
        .route("/v1/backup", post(status::backup))
        .route("/v1/status", get(status::status))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(context)
}
