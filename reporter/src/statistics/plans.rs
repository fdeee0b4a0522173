//! Where batches end, written down before they are inserted into a store that has no transactions.

use std::collections::HashMap;

use eventlog::{Log, LogError, NewRecord, TableEvent};
use schemas::Topic;
use schemas::plan::Plan;
use schemas::topics::TopicPartition;

use crate::store::Covered;

/// The newest plan of each topic partition.
#[derive(Default)]
pub(super) struct Plans(HashMap<TopicPartition, Plan>);

impl Plans {
    /// As they stand in the log now.
    pub(super) async fn read(log: &Log) -> Result<Self, LogError> {
        let mut plans = Plans::default();
        let mut table = log.table(Topic::Plans, None).await?;
        loop {
            for event in table.next(1000).await? {
                let TableEvent::Row(record) = event else { return Ok(plans) };
                if record.key == schemas::migration::KEY {
                    continue;
                }
                match record.value.as_deref().map(serde_json::from_slice::<Plan>) {
                    Some(Ok(plan)) => plans.note(plan),
                    Some(Err(error)) => {
                        tracing::error!(position = %record.position, %error, "a plan does not parse, it is passed over");
                    }
                    None => {}
                }
            }
        }
    }

    pub(super) fn note(&mut self, plan: Plan) {
        self.0.insert(plan.at(), plan);
    }

    /// Where the batch that begins at `first` must end, if one was planned.
    pub(super) fn end(&self, at: TopicPartition, first: u64) -> Option<u64> {
        self.0.get(&at).filter(|plan| plan.first == first && plan.next > first).map(|plan| plan.next)
    }
}

pub(super) fn plan(covered: &Covered) -> Plan {
    Plan { topic: covered.at.topic, partition: covered.at.partition, first: covered.from, next: covered.next }
}

pub(super) fn record(plan: &Plan) -> NewRecord {
    let value = serde_json::to_vec(plan).unwrap_or_default(); // numbers and words: nothing of it can fail
    NewRecord::new(Topic::Plans, plan.key(), plan.key(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plan_from_the_same_place_holds() {
        let at = TopicPartition { topic: Topic::Attempts, partition: 2 };
        let mut plans = Plans::default();
        plans.note(plan(&Covered { at, from: 10, next: 20 }));
        assert_eq!(plans.end(at, 10), Some(20));
        assert_eq!(plans.end(at, 12), None);
        assert_eq!(plans.end(TopicPartition { partition: 1, ..at }, 10), None);
    }
}
