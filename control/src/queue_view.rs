//! The queue of all lanes, folded from `queue`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eventlog::{Log, Record, View};
use schemas::commands::QueueSelect;
use schemas::queue::QueueEntry;
use schemas::{EnhancedCode, Timestamp, Topic};
use tokio_util::sync::CancellationToken;

use crate::api::QueueTotal;

/// Groups of a summary, at most.
const MAX_TOTALS: usize = 1000;

/// Every entry. The key has the partition in it, because an entry that moves to another node's lane stands in two
/// partitions for a moment, and its tombstone in the one may be seen after its row in the other.
#[derive(Debug, Default)]
pub struct QueueView {
    entries: BTreeMap<(Bytes, u32), QueueEntry>,
}

/// Follows the queue.
#[must_use]
pub fn follow(log: Log, shutdown: CancellationToken) -> View<QueueView> {
    View::follow(log, Topic::Queue, QueueView::default(), QueueView::take, shutdown)
}

impl QueueView {
    fn take(&mut self, record: &Record) {
        let key = (record.key.clone(), record.position.partition);
        let Some(value) = &record.value else {
            self.entries.remove(&key);
            return;
        };
        match serde_json::from_slice(value) {
            Ok(entry) => {
                self.entries.insert(key, entry);
            }
            Err(error) => {
                tracing::error!(position = %record.position, %error, "a queue entry does not parse, it is passed over");
            }
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &QueueEntry> {
        self.entries.values()
    }

    pub fn selected<'a>(&'a self, select: &'a QueueSelect) -> impl Iterator<Item = &'a QueueEntry> {
        self.entries().filter(|entry| select.selects(entry))
    }

    /// The nodes whose lanes hold what is selected, and how many entries that is.
    #[must_use]
    pub fn lanes(&self, select: &QueueSelect) -> (BTreeSet<String>, u64) {
        let mut count = 0;
        let nodes = self.selected(select).inspect(|_| count += 1).map(|entry| entry.node.clone()).collect();
        (nodes, count)
    }

    /// The entry as it is now.
    #[must_use]
    pub fn same(&self, entry: &QueueEntry) -> Option<&QueueEntry> {
        let key = schemas::queue::key(entry.message.id, &entry.site);
        let all = self.entries.range((key.clone(), 0)..=(key, u32::MAX));
        all.map(|(_, found)| found).find(|found| found.node == entry.node)
    }
}

/// Site, reply code, enhanced status code.
type Reason<'a> = (&'a str, Option<u16>, Option<[u16; 3]>);

/// Recipients by site and reason, the largest group first.
#[must_use]
pub fn totals<'a>(entries: impl Iterator<Item = &'a QueueEntry>) -> Vec<QueueTotal> {
    let mut groups: BTreeMap<Reason<'_>, QueueTotal> = BTreeMap::new();
    for entry in entries {
        for recipient in &entry.recipients {
            let reply = recipient.last_reply.as_ref();
            let code = reply.map(|reply| reply.code);
            let enhanced = reply.and_then(|reply| reply.enhanced);
            let order =
                enhanced.map(|EnhancedCode(class, subject, detail)| [u16::from(class), subject, detail]);
            let group = groups.entry((&entry.site, code, order)).or_insert_with(|| QueueTotal {
                site: entry.site.clone(),
                code,
                enhanced,
                example: reply
                    .map_or_else(|| "not tried yet".into(), |r| r.to_string().chars().take(200).collect()),
                recipients: 0,
                oldest: entry.queued_at,
                next_attempt: Timestamp(i64::MAX),
            });
            group.recipients += 1;
            group.oldest = group.oldest.min(entry.queued_at);
            group.next_attempt = group.next_attempt.min(entry.next_attempt);
        }
    }
    let mut totals: Vec<QueueTotal> = groups.into_values().collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.recipients));
    totals.truncate(MAX_TOTALS);
    totals
}
