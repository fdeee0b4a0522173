//! What the group says about who owns what, kept until the member is ready to hear it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use schemas::topics::TopicPartition;

use super::names::Names;
use super::{notices, offsets};

/// One decision of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Given; nothing is fetched before the member has looked up where to begin.
    Given(Vec<TopicPartition>),
    /// Asked back, all that the member had: the eager protocol knows nothing less. The group waits until `give_up`.
    AskedBack { since: Instant },
    /// Taken away: the group did not hear of the member for too long.
    Lost,
}

/// The context of a member's client. librdkafka calls it only from within the member's own `poll`, so a member never loses
/// a partition between two polls without being told by the second.
pub(super) struct Membership {
    names: Names,
    changes: Mutex<VecDeque<Change>>,
    leaving: AtomicBool,
}

impl Membership {
    pub(super) fn new(names: Names) -> Self {
        Membership { names, changes: Mutex::default(), leaving: AtomicBool::new(false) }
    }

    /// From now on nothing is taken up: an assignment without an answer would keep the client from closing, for ever.
    pub(super) fn leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What has to be dealt with next. It stays until `dealt_with`, so that a poll may be cancelled in between.
    pub(super) fn next(&self) -> Option<Change> {
        self.changes().front().cloned()
    }

    pub(super) fn dealt_with(&self) {
        self.changes().pop_front();
    }

    fn changes(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        notices::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        notices::failed(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        change: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if change == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let ours = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                let topic = self.names.topic_of(element.topic())?;
                Some(offsets::place(topic, element.partition()))
            };
            if self.leaving.load(Ordering::Relaxed) {
                give_up(consumer);
            }
            let given = list.elements().into_iter().filter_map(ours).collect();
            self.changes().push_back(Change::Given(given));
            return;
        }
        if self.leaving.load(Ordering::Relaxed) || consumer.assignment_lost() {
            give_up(consumer);
            self.changes().push_back(Change::Lost);
        } else {
            self.changes().push_back(Change::AskedBack { since: Instant::now() });
        }
    }
}

pub(super) fn give_up(consumer: &BaseConsumer<Membership>) {
    if let Err(error) = consumer.unassign() {
        tracing::debug!(%error, "partitions cannot be given up");
    }
}
