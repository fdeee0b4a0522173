//! A compacted topic, read from its start and then followed.
//!
//! It is caught up when every partition was read past the end that it really had when the table was opened, transactions
//! that were open then included. Whoever opens a table for partitions that it was assigned has waited for the commits of
//! their last owner already (`consumer`), so what that owner wrote lies before this end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::topics::TopicPartition;

use super::clients::TRANSACTION_TIMEOUT;
use super::following::{Follower, Found};
use super::offsets::Offsets;
use super::shared::Shared;
use crate::{LogError, Table, TableEvent};

const LOOK: Duration = Duration::from_millis(5);
/// The brokers end every open transaction by then; they look for old ones every ten seconds.
const DECIDED_WITHIN: Duration = TRANSACTION_TIMEOUT.saturating_add(Duration::from_secs(15));

pub(super) struct KafkaTable {
    follower: Follower,
    /// Partitions not read up to their end yet; absent once the table said that it is caught up.
    behind: Option<BTreeSet<u32>>,
    /// Where each of them ended when the table was opened.
    ends: Offsets,
}

impl KafkaTable {
    pub(super) async fn open(shared: Arc<Shared>, of: Vec<TopicPartition>) -> Result<Self, LogError> {
        let asked = of.clone();
        let (starts, ends) = shared
            .blocking(move |shared| Ok((shared.bounds.starts(&asked)?, shared.bounds.ends(&asked)?)))
            .await?;
        decided(&shared, &of, &ends).await?;
        let behind = of.iter().filter(|of| starts[*of] < ends[*of]).map(|of| of.partition).collect();
        Ok(KafkaTable { follower: Follower::begin(shared, starts)?, behind: Some(behind), ends })
    }

    /// Whether this record is the last of its partition that has to be waited for.
    fn passed(&mut self, found: &Found) {
        let Some(behind) = &mut self.behind else { return };
        match found {
            Found::Record(record) => {
                let of = record.position.topic_partition();
                if self.ends.get(&of).is_some_and(|end| record.position.offset + 1 >= *end) {
                    behind.remove(&of.partition);
                }
            }
            // All was decided up to `ends` before reading began, so any end that is met lies there or further on.
            Found::End(partition) => {
                behind.remove(partition);
            }
        }
    }
}

/// Waits until no transaction is open that began before `ends`.
async fn decided(shared: &Arc<Shared>, of: &[TopicPartition], ends: &Offsets) -> Result<(), LogError> {
    let deadline = tokio::time::Instant::now() + DECIDED_WITHIN;
    loop {
        let asked = of.to_vec();
        let stable = shared.blocking(move |shared| shared.bounds.stable_ends(&asked)).await?;
        if ends.iter().all(|(of, end)| stable[of] >= *end) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(LogError::Unavailable("a transaction on the topic does not end".into()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[async_trait]
impl Table for KafkaTable {
    async fn next(&mut self, max: usize) -> Result<Vec<TableEvent>, LogError> {
        loop {
            if self.behind.as_ref().is_some_and(BTreeSet::is_empty) {
                self.behind = None;
                return Ok(vec![TableEvent::CaughtUp]);
            }
            let found = self.follower.next(max.max(1)).await?;
            let mut events = Vec::with_capacity(found.len());
            for found in found {
                self.passed(&found);
                if let Found::Record(record) = found {
                    events.push(TableEvent::Row(record));
                }
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
