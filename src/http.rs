//! `[http]`: Prometheus metrics at `/metrics`, health at `/health`, and the pages of control for people without a login.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The answer of `/health`: 200 when mail is taken in, else 503 with the reason.
#[derive(Debug, Serialize)]
struct HealthAnswer {
    accepting: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    gate: ingress::Gate,
    pages: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics).with_state(registry))
        .route("/health", get(health_answer).with_state(gate))
        .merge(pages);
    let stop = shutdown.clone();
    let served =
        axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await });
    tokio::select! {
        served = served => Ok(served?),
        () = async { stop.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(1)).await } => Ok(()),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string(),
        ),
    }
}

async fn health_answer(State(gate): State<ingress::Gate>) -> impl IntoResponse {
    let reason = gate.shut().map(|shut| shut.to_string());
    let answer = HealthAnswer { accepting: reason.is_none(), reason };
    let status = if answer.accepting { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(answer))
}
