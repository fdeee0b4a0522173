//! Whether a list works, looked at from the start on: one that is gone lists nothing, or everything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{DnsLists, Kind, Watched, answer};
use crate::Metrics;
use crate::outside::dns::{self, Answer};

/// Between two looks at one that works, and at one that does not.
const WORKS: Duration = Duration::from_secs(600);
const FAILS: Duration = Duration::from_secs(30);

const NO_ANSWER: &str = "it does not answer";

impl DnsLists {
    /// Looks at every list again and again, until `shutdown`.
    pub async fn keep_watch(&self, metrics: &Metrics, shutdown: &CancellationToken) {
        let watching = join_all(self.lists.iter().map(|watched| self.watch(watched, metrics)));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = watching => {}
        }
    }

    async fn watch(&self, watched: &Watched, metrics: &Metrics) {
        let mut told = None;
        loop {
            let standing = self.look_at(watched).await;
            let zone = &watched.list.zone;
            let is_new = standing.is_some_and(|standing| told != Some(standing)) || told.is_none();
            let standing_now = standing.unwrap_or_else(|| told.unwrap_or(Err(NO_ANSWER)));
            if is_new {
                match standing_now {
                    Ok(()) => tracing::info!(zone, "a DNS list works, it is used"),
                    Err(why) => tracing::warn!(zone, why, "a DNS list is not believed, it is not used"),
                }
            }
            told = Some(standing_now);
            watched.believed.store(standing_now.is_ok(), Ordering::Relaxed);
            metrics.dns_list(zone, standing_now.is_ok());
            tokio::time::sleep(if standing == Some(Ok(())) { WORKS } else { FAILS }).await;
        }
    }

    /// `None` when it does not answer.
    async fn look_at(&self, watched: &Watched) -> Option<Result<(), &'static str>> {
        let (listed, not_listed) = test_points(watched);
        let (listed, not_listed) = tokio::join!(self.test(watched, &listed), self.test(watched, &not_listed));
        answer::believed(&listed, &not_listed)
    }

    async fn test(&self, watched: &Watched, question: &str) -> Answer {
        match watched.list.name(question) {
            Some(name) => dns::addresses(&self.resolver, &name).await.0,
            None => Answer::Failed,
        }
    }
}

/// What it has to list, and what it must not (RFC 5782, 5).
fn test_points(watched: &Watched) -> (String, String) {
    let (listed, not_listed) = match watched.list.kind {
        Kind::Domain => ("test", "invalid"),
        Kind::Ip => ("2.0.0.127", "1.0.0.127"),
    };
    let listed = watched.list.test_point.as_deref().unwrap_or(listed);
    (listed.to_owned(), not_listed.to_owned())
}
