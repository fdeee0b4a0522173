//! Leaving a group.
//!
//! A member with a stable name (`group.instance.id`) stays in the books of its group for the session timeout after it is
//! gone, so that a quick restart disturbs nobody; librdkafka offers no way to strike it off. To have the others take over
//! at once, a member that leaves for good first subscribes to something else: the group then shares out its partitions
//! anew, and what stays in the books owns nothing that anybody waits for.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use schemas::Topic;
use tokio::sync::watch;

use super::assignment::{Change, Membership, give_up};

/// For the others to notice and to join again, which they do when they poll.
const HAND_OVER: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// A topic that the member does not read.
pub(super) fn elsewhere(topics: &[Topic]) -> Option<Topic> {
    [Topic::Models, Topic::Plans].into_iter().find(|topic| !topics.contains(topic))
}

/// Blocks until the group knows, or for as long as `HAND_OVER`.
pub(super) fn leave(native: &BaseConsumer<Membership>, elsewhere: Option<String>) {
    drop_all(native);
    if let Some(topic) = elsewhere
        && native.subscribe(&[&topic]).is_ok()
    {
        let deadline = Instant::now() + HAND_OVER;
        while Instant::now() < deadline && native.client().fatal_error().is_none() {
            // Nothing is owned any more; what was fetched before is dropped.
            let _ = native.poll(POLL);
            match native.context().next() {
                Some(Change::Given(_)) => break,
                Some(Change::AskedBack { .. } | Change::Lost) => drop_all(native),
                None => {}
            }
        }
    }
    go(native);
}

/// Afterwards the client may be dropped without waiting for anything.
pub(super) fn go(native: &BaseConsumer<Membership>) {
    native.context().leaving();
    drop_all(native);
}

/// Answers every decision of the group with having nothing.
fn drop_all(native: &BaseConsumer<Membership>) {
    while let Some(change) = native.context().next() {
        match change {
            Change::Given(_) | Change::AskedBack { .. } => give_up(native),
            Change::Lost => {}
        }
        native.context().dealt_with();
    }
}

/// Clients that are closing, each on a thread of its own because closing blocks.
#[derive(Clone)]
pub(super) struct Departures {
    /// By what they are known as: a slot of a group, or nothing.
    under_way: watch::Sender<Vec<String>>,
}

impl Departures {
    pub(super) fn new() -> Self {
        Departures { under_way: watch::Sender::new(Vec::new()) }
    }

    /// Runs `depart`, which also drops what it holds.
    pub(super) fn start(&self, name: &str, depart: impl FnOnce() + Send + 'static) {
        self.under_way.send_modify(|names| names.push(name.to_owned()));
        let departures = self.clone();
        let ended = name.to_owned();
        let thread = std::thread::Builder::new().name("eventlog-leave".into()).spawn(move || {
            depart();
            departures.ended(&ended);
        });
        if let Err(error) = thread {
            tracing::warn!(%error, "a client is dropped without its thread");
            self.ended(name);
        }
    }

    fn ended(&self, name: &str) {
        self.under_way.send_modify(|names| {
            if let Some(at) = names.iter().position(|other| other == name) {
                names.swap_remove(at);
            }
        });
    }

    /// Resolves when nobody of that name is leaving, or after `max_wait`: who comes back under a name must not meet
    /// itself on its way out.
    pub(super) async fn gone(&self, name: &str, max_wait: Duration) {
        self.until(|names| names.iter().all(|other| other != name), max_wait).await;
    }

    /// Resolves when all are gone, or after `max_wait`.
    pub(super) async fn all_gone(&self, max_wait: Duration) {
        self.until(Vec::is_empty, max_wait).await;
    }

    async fn until(&self, done: impl Fn(&Vec<String>) -> bool, max_wait: Duration) {
        let mut under_way = self.under_way.subscribe();
        if tokio::time::timeout(max_wait, under_way.wait_for(|names| done(names))).await.is_err() {
            tracing::debug!("kafka clients are still closing");
        }
    }
}
