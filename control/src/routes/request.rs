//! Who asks, what is asked, and how a refusal is told.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use eventlog::{LogError, View};
use serde::de::DeserializeOwned;

use crate::Error;
use crate::api::{ACTOR_HEADER, Refusal};

const MAX_ACTOR_BYTES: usize = 200;
/// How long a query waits for a view that is still reading its topic.
const VIEW_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Who asks, for the audit trail. Whoever can open the socket may say who it is.
pub struct Actor(pub String);

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let Some(value) = parts.headers.get(ACTOR_HEADER) else { return Ok(Actor("local (api)".into())) };
        let text = value.to_str().unwrap_or_default().trim();
        if text.is_empty() || text.len() > MAX_ACTOR_BYTES {
            return Err(Error::invalid(
                format!("the header {ACTOR_HEADER} does not name anybody"),
                "write 1 to 200 ASCII characters, as `root@host (cli)`",
            ));
        }
        Ok(Actor(text.into()))
    }
}

/// A JSON body; what is wrong with it is told like everything else.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            Error::invalid(format!("the request cannot be read: {error}"), "send at most 64 MiB")
        })?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| {
            Error::invalid(
                format!("the request is not what this route takes: {error}"),
                "correct the JSON that is sent",
            )
        })
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::Invalid { .. }
            | Error::Settings(_)
            | Error::File { .. }
            | Error::Log(LogError::TooLarge { .. }) => StatusCode::BAD_REQUEST,
            Error::NotFound { .. } => StatusCode::NOT_FOUND,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Unavailable { .. } | Error::Log(LogError::Unavailable(_) | LogError::Closed) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::ClusterKey { .. } | Error::Log(_) | Error::Internal(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        if status.is_server_error() {
            tracing::warn!(error = %self, "a request was not answered");
        }
        let (error, fix) = (self.to_string(), self.fix());
        let problems = match self {
            Error::Settings(problems) => problems,
            _ => Vec::new(),
        };
        (status, Json(Refusal { error, fix, problems })).into_response()
    }
}

/// Waits for a view to have read its topic: half a queue is worse than none.
pub async fn ready<T: Send + Sync + 'static>(view: &View<T>, name: &str) -> Result<(), Error> {
    tokio::time::timeout(VIEW_TIMEOUT, view.caught_up()).await.map_err(|_| {
        Error::unavailable(
            format!("`{name}` is still being read from the log"),
            format!("look at `mailweir status`, and try again when the view `{name}` is caught up"),
        )
    })
}
