//! What another node shall send, because the sources of the pool are there: it is put into that node's lane. What other
//! nodes put into ours.

use eventlog::NewRecord;
use schemas::queue::{self, QueueEntry};
use schemas::verdict::MessageSummary;
use schemas::{SmtpReply, Timestamp, Topic};

use crate::egress::{self, Choice};
use crate::lane::State;
use crate::outcome::local;
use crate::records;
use crate::site::Key;
use crate::worker::Worker;

/// Arrivals remembered, so that one which was written twice is not delivered twice.
const REMEMBERED: usize = 10_000;

impl Worker {
    /// Where a message leaves from.
    pub(super) fn choose(&self, message: &MessageSummary) -> Choice {
        let settings = self.press.settings.read();
        let user = self.press.users.get(&settings, &message.user);
        egress::choose(&settings, &self.node, user.delivery_pool.as_deref(), message.id)
    }

    /// The node whose lane an entry belongs in, if not in this one.
    pub(super) fn to_pass_on_to<'a>(&self, entry: &QueueEntry, choice: &'a Choice) -> Option<&'a str> {
        match choice {
            Choice::Elsewhere { node, .. } if !entry.moved && !self.press.config.alone => Some(node),
            _ => None,
        }
    }

    /// Puts an entry that is in no lane yet into another node's, in the commit that moves past its message.
    pub(super) fn pass_on_fresh(&mut self, entry: QueueEntry, node: &str, now: Timestamp) {
        let partition = entry.position.topic_partition();
        let record = records::entry(&passed_on(entry, node, now));
        self.released_outputs.extend(record.map(|record| (partition, record)));
    }

    /// Moves an entry of the lane into another node's.
    pub(super) fn pass_on(&mut self, key: &Key, entry: QueueEntry, node: &str, now: Timestamp) {
        tracing::info!(message.id = %key.0, node, "a queued message is passed on to the node that has the sources of its pool");
        self.lane.take(key);
        let mut outputs: Vec<NewRecord> = records::entry(&passed_on(entry, node, now)).into_iter().collect();
        let partition_of = |of: &str| self.press.log.partition_of(Topic::Queue, &queue::lane_key(of));
        // In one partition its key is written over, and a tombstone would take it out of both lanes.
        if partition_of(&self.node) != partition_of(node) {
            outputs.push(records::tombstone(&self.node, key));
        }
        // Whoever takes its partition of `released` over puts it there, if it is not written yet.
        match self.unwritten.iter().find(|(_, unwritten)| unwritten == key) {
            Some((of, _)) => {
                let of = *of;
                self.released_outputs.extend(outputs.into_iter().map(|record| (of, record)));
            }
            None => self.lane_outputs.extend(outputs),
        }
    }

    /// Takes in what other nodes put into the lane.
    pub(super) fn take_in(&mut self, arrived: Vec<QueueEntry>) {
        for entry in arrived {
            let key = (entry.message.id, entry.site.clone());
            let Some(at) = entry.passed_on_at else { continue };
            if self.arrived.len() >= REMEMBERED {
                self.arrived.clear();
            }
            let is_new = self.arrived.insert((key.clone(), at));
            if self.lane.get(&key).is_some() {
                continue;
            }
            if is_new {
                self.lane.put(QueueEntry { passed_on_at: None, ..entry }, State::Resting);
            } else {
                // A commit of unknown fate was made again, and the entry is done with.
                self.lane_outputs.push(records::tombstone(&self.node, &key));
            }
        }
    }

    /// The reply in place of a try. The first time it is told in the log, too.
    pub(super) fn no_source(&mut self, pool: &str) -> SmtpReply {
        self.metrics.pool_without_source.inc();
        if self.pools_told.insert(pool.to_owned()) {
            tracing::warn!(
                pool,
                node = self.node,
                "an egress pool has no source that mail could leave from, its mail is put off"
            );
        }
        local(451, (4, 3, 5), format!("The egress pool {pool} has no source on node {}", self.node))
    }
}

fn passed_on(entry: QueueEntry, node: &str, now: Timestamp) -> QueueEntry {
    QueueEntry { node: node.to_owned(), passed_on_at: Some(now), ..entry }
}
