//! What the CLI and the API ask: the message log, statistics, one message's story.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use eventlog::Log;
use serde::{Deserialize, Serialize};

use crate::store::query::{Group, LogFilter, StatsFilter};
use crate::trace::{self, TraceEvent};
use crate::{Error, StatsStore};

#[derive(Clone)]
struct Context {
    store: Arc<dyn StatsStore>,
    log: Log,
}

/// The answer of `/v1/trace`: the messages that the text names, and the story of the newest.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trace {
    pub message_ids: Vec<String>,
    pub events: Vec<TraceEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StatsQuery {
    domain: Option<String>,
    user: Option<String>,
    identity: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    group_by: Group,
}

/// What `POST /v1/statistics/rebuild` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildRequest {
    /// As `2026-11`.
    pub month: String,
}

/// What `POST /v1/statistics/erase` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    pub address: String,
}

/// The answer of `POST /v1/statistics/rebuild` (0 rows) and `erase`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RewriteAnswer {
    /// Recipients of the message log whose rows changed.
    pub rows: usize,
}

/// `GET /v1/log`, `/v1/stats`, `/v1/trace/{id}`, `POST /v1/statistics/rebuild`, `/v1/statistics/erase`, all JSON.
pub fn router(store: Arc<dyn StatsStore>, log: Log) -> Router {
    Router::new()
        .route("/v1/log", get(message_log))
        .route("/v1/stats", get(statistics))
        .route("/v1/trace/{id}", get(story))
        .route("/v1/statistics/rebuild", post(rebuild))
        .route("/v1/statistics/erase", post(erase))
        .with_state(Context { store, log })
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Error::Query(_) => StatusCode::BAD_REQUEST,
            Error::Store(_) | Error::Log(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}

fn parsed<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|rejection| Error::Query(rejection.body_text()))
}

/// Runs a store's call on a thread that may block.
async fn ask<T: Send + 'static>(
    context: &Context,
    call: impl FnOnce(&dyn StatsStore) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = Arc::clone(&context.store);
    tokio::task::spawn_blocking(move || call(store.as_ref()))
        .await
        .map_err(|error| Error::Store(error.to_string()))?
}

async fn message_log(
    State(context): State<Context>,
    query: Result<Query<LogFilter>, QueryRejection>,
) -> Result<Response, Error> {
    let filter = parsed(query)?.checked()?;
    let lines = ask(&context, move |store| store.log(&filter)).await?;
    Ok(Json(lines).into_response())
}

async fn statistics(
    State(context): State<Context>,
    query: Result<Query<StatsQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let query = parsed(query)?;
    let group = query.group_by;
    let filter = StatsFilter {
        domain: query.domain,
        user: query.user,
        identity: query.identity,
        since: query.since,
        until: query.until,
    }
    .checked()?;
    let lines = ask(&context, move |store| store.stats(&filter, group)).await?;
    Ok(Json(lines).into_response())
}

async fn rebuild(
    State(context): State<Context>,
    request: Result<Json<RebuildRequest>, JsonRejection>,
) -> Result<Response, Error> {
    let Json(request) = request.map_err(|rejection| Error::Query(rejection.body_text()))?;
    let month = request.month.parse()?;
    ask(&context, move |store| store.rebuild(month)).await?;
    Ok(Json(RewriteAnswer { rows: 0 }).into_response())
}

async fn erase(
    State(context): State<Context>,
    request: Result<Json<EraseRequest>, JsonRejection>,
) -> Result<Response, Error> {
    let Json(EraseRequest { address }) = request.map_err(|rejection| Error::Query(rejection.body_text()))?;
    let rows = ask(&context, move |store| store.erase(&address)).await?;
    Ok(Json(RewriteAnswer { rows }).into_response())
}

async fn story(State(context): State<Context>, Path(id): Path<String>) -> Result<Response, Error> {
    let message_ids = ask(&context, move |store| store.find(&id)).await?;
    let events = match message_ids.first().cloned() {
        Some(newest) => {
            let id = newest.clone();
            let events = ask(&context, move |store| store.events(&id)).await?;
            trace::read(&context.log, &newest, events).await?
        }
        None => Vec::new(),
    };
    Ok(Json(Trace { message_ids, events }).into_response())
}
