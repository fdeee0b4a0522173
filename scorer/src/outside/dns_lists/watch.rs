//! Whether a list works, looked at from the start on: one that is gone lists nothing, or everything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{DnsLists, Kind, Watched, answer};
use crate::Metrics;
use crate::outside::dns::{self, Answer};

/// Between two looks at one that works, and at one that does not.
const WORKS: Duration = Duration::from_secs(60);
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
            self.set_believed(watched, standing_now.is_ok());
            metrics.dns_list(zone, standing_now.is_ok());
            tokio::time::sleep(if standing == Some(Ok(())) { WORKS } else { FAILS }).await;
        }
    }

    /// What it said before is not to be believed either: nobody knows since when it says nonsense.
    fn set_believed(&self, watched: &Watched, believed: bool) {
        if watched.believed.swap(believed, Ordering::Relaxed) != believed {
            let zone = format!(".{}", watched.list.zone);
            self.memory.forget(|name| name.ends_with(&zone));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU8;

    use tokio::time::Instant;

    use super::*;
    use crate::judge::Case;
    use crate::outside::dns::fake::{NameServer, Says};
    use crate::outside::dns_lists::{DEFAULT_WEIGHT, DnsList};
    use crate::samples::{envelope, policy};

    const WORKS: u8 = 0;
    const LISTS_ALL: u8 = 1;
    const LISTS_NOTHING: u8 = 2;

    #[tokio::test]
    async fn what_a_list_said_is_forgotten_when_it_turns_out_to_list_everything() {
        let now = Arc::new(AtomicU8::new(WORKS));
        let does = Arc::clone(&now);
        let names = NameServer::start(move |name| match does.load(Ordering::Relaxed) {
            WORKS if name.starts_with("test.") => Says::Address([127, 0, 0, 2].into()),
            LISTS_ALL => Says::Address([127, 0, 0, 2].into()),
            _ => Says::NoSuchName,
        });
        let list = |zone: &str| DnsList {
            zone: zone.into(),
            kind: Kind::Domain,
            codes: vec!["127.0.0.2/32".parse().unwrap()],
            key: None,
            weight: DEFAULT_WEIGHT,
            symbol: DnsList::default_symbol(zone),
            test_point: None,
        };
        let lists =
            DnsLists::new(vec![list("dbl.example"), list("x.dbl.example.net")], names.await.resolver());
        let (first, second) = (&lists.lists[0], &lists.lists[1]);
        let look = async |does: u8, works: bool| {
            now.store(does, Ordering::Relaxed);
            let standing = lists.look_at(first).await.unwrap();
            assert_eq!(standing.is_ok(), works, "{does}: {standing:?}");
            lists.set_believed(first, works);
        };
        let (envelope, policy) = (envelope("a@b.example", &[]), policy("{}"));
        let message = b"From: a@b.example\r\n\r\nhttps://good.example/";
        let case = Case { envelope: &envelope, message, policy: &policy };
        let hits = async || lists.ask_about(&case, Instant::now() + Duration::from_secs(10)).await.len();

        look(WORKS, true).await;
        look(LISTS_NOTHING, false).await;
        look(WORKS, true).await;
        lists.set_believed(second, true);
        now.store(LISTS_ALL, Ordering::Relaxed);
        assert_eq!(hits().await, 2, "nobody knows yet");
        look(LISTS_ALL, false).await;
        look(WORKS, true).await;
        assert_eq!(hits().await, 1, "of the list that is still believed");
    }
}
