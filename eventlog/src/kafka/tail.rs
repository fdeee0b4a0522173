//! A partition, followed from its end or from an offset.

use std::sync::Arc;

use async_trait::async_trait;
use schemas::topics::TopicPartition;

use super::following::{Follower, Found};
use super::offsets::Offsets;
use super::shared::Shared;
use crate::{LogError, Record, Tail, TailFrom};

pub(super) struct KafkaTail {
    follower: Follower,
}

impl KafkaTail {
    pub(super) async fn open(
        shared: Arc<Shared>,
        of: TopicPartition,
        from: TailFrom,
    ) -> Result<Self, LogError> {
        let from = match from {
            TailFrom::Offset(offset) => Offsets::from([(of, offset)]),
            // Before what is still undecided: it can only be seen from now on.
            TailFrom::End => shared.blocking(move |shared| shared.bounds.stable_ends(&[of])).await?,
        };
        Ok(KafkaTail { follower: Follower::begin(shared, from)? })
    }
}

#[async_trait]
impl Tail for KafkaTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let records: Vec<Record> = self
                .follower
                .next(max.max(1))
                .await?
                .into_iter()
                .filter_map(|found| match found {
                    Found::Record(record) => Some(record),
                    Found::End(_) => None,
                })
                .collect();
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }
}
