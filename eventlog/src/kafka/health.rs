//! Whether new mail may be taken in: the last write succeeded, and every partition of `accepted` has enough copies.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer as _;
use schemas::Topic;

use super::outgoing;
use super::shared::Shared;
use crate::{LogError, NewRecord};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Why not, if so.
#[derive(Default)]
pub(super) struct Health {
    down: RwLock<Option<String>>,
}

impl Health {
    pub(super) fn accepting(&self) -> Result<(), LogError> {
        match &*self.down.read().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(LogError::Unavailable(why.clone())),
        }
    }

    pub(super) fn written(&self) {
        if self.accepting().is_err() {
            self.set(None);
        }
    }

    pub(super) fn failed(&self, why: String) {
        self.set(Some(why));
    }

    fn set(&self, why: Option<String>) {
        let mut down = self.down.write().unwrap_or_else(PoisonError::into_inner);
        match (&*down, &why) {
            (None, Some(why)) => tracing::warn!(why, "kafka cannot be written"),
            (Some(_), None) => tracing::info!("kafka can be written again"),
            _ => {}
        }
        *down = why;
    }
}

/// Looks at the brokers until the log is closed: nobody writes while the log is down, so no write of others could tell that
/// it is up again.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let found = match shared.blocking(writable).await {
            // What the brokers say of themselves is not enough: one that lost the others says what was true before.
            Ok(()) if shared.health.accepting().is_err() => probe(&shared).await,
            found => found,
        };
        match found {
            Ok(()) => shared.health.written(),
            Err(LogError::Closed) => return,
            Err(error) => shared.health.failed(error.to_string()),
        }
    }
}

fn writable(shared: &Shared) -> Result<(), LogError> {
    let name = shared.names.topic(Topic::Accepted);
    let metadata = shared
        .producer
        .native()
        .client()
        .fetch_metadata(Some(&name), ANSWER_WITHIN)
        .map_err(|error| super::failure::unavailable("no broker answers", &error))?;
    let needed = shared.config.min_insync() as usize;
    let short = metadata
        .topics()
        .iter()
        .flat_map(MetadataTopic::partitions)
        .find(|partition| partition.leader() < 0 || partition.isr().len() < needed);
    match short {
        Some(partition) => Err(LogError::Unavailable(format!(
            "partition {} of {name} has {} copies in sync, {needed} are needed",
            partition.id(),
            partition.isr().len()
        ))),
        None => Ok(()),
    }
}

/// Writes something that nobody reads to every partition of `replies`, so to every broker that leads one.
async fn probe(shared: &Shared) -> Result<(), LogError> {
    let partitions = 0..shared.config.partitions(Topic::Replies);
    let records = partitions
        .map(|partition| NewRecord::tombstone(Topic::Replies, "probe", "probe").in_partition(partition));
    let records = outgoing::checked(&shared.config, &shared.names, records.collect())?;
    shared.producer.append(records).await.map(drop)
}
