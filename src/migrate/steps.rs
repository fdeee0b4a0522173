//! The order in which things are moved. An interruption anywhere leaves a target that says so (`marker`), and the next run
//! covers what is there: groups pass over it, rows are written over or taken away, history counts once by its ids.

use std::collections::HashMap;
use std::time::Duration;

use eventlog::{Log, NewRecord, Record};
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::queue::QueueEntry;
use schemas::topics::TopicPartition;
use schemas::{Position, Timestamp, Topic};

use super::allowed::Beginning;
use super::carry::{self, Unreadable};
use super::groups;
use super::messages::Messages;
use super::moved::Moved;
use super::source::{self, Kept, Unread};
use super::target::{Leftover, Writer};

pub(super) struct Steps<'a> {
    source: &'a Log,
    target: &'a Log,
    node: &'a str,
    now: Timestamp,
    messages: Messages<'a>,
    moved: Moved,
}

impl<'a> Steps<'a> {
    pub(super) fn new(source: &'a Log, target: &'a Log, node: &'a str, now: Timestamp) -> Self {
        let messages = Messages::new(source, target);
        Steps { source, target, node, now, messages, moved: Moved::default() }
    }

    pub(super) async fn run(mut self, beginning: Beginning) -> anyhow::Result<Moved> {
        let (queue, quarantine, senders) = (
            self.rows(Topic::Queue).await?,
            self.rows(Topic::Quarantine).await?,
            self.rows(Topic::Senders).await?,
        );
        let quarantine = self.placed(quarantine).await?;
        let mut named = named_by(&queue, &quarantine, &senders);
        named.extend(self.still_to_be_reported().await?);
        self.messages.bring(named, &mut self.moved).await?;
        self.verdicts_reported().await?;
        self.attempts_counted().await?;
        self.history(Topic::Sessions, |_| true).await?;
        self.changes().await?;
        // From here on each record written is one that its reader has to come to.
        groups::pass_over_all(self.target, self.node).await?;
        let models = self.rows(Topic::Models).await?;
        for (topic, rows) in [
            (Topic::Queue, queue),
            (Topic::Quarantine, quarantine),
            (Topic::Senders, senders),
            (Topic::Models, models),
        ] {
            self.write_rows(topic, rows, beginning).await?;
        }
        self.unread().await?;
        let settings = self.rows(Topic::Settings).await?;
        self.write_rows(Topic::Settings, settings, beginning).await?;
        Ok(self.moved)
    }

    async fn rows(&self, topic: Topic) -> anyhow::Result<Vec<Record>> {
        let mut rows = Vec::new();
        for at in source::partitions(self.source, topic) {
            rows.extend(source::rows(self.source, at).await?);
        }
        Ok(rows)
    }

    /// The rows of the quarantine, each with the place of its message. One that was written when the scorer was killed
    /// names `accepted`; its message stands in `quarantined` under its id.
    async fn placed(&self, rows: Vec<Record>) -> anyhow::Result<Vec<Record>> {
        let mut missing: HashMap<String, Option<Position>> =
            rows.iter().filter_map(unplaced).map(|id| (id, None)).collect();
        if missing.is_empty() {
            return Ok(rows);
        }
        for at in source::partitions(self.source, Topic::Quarantined) {
            let mut kept = Kept::of(self.source, at).await?;
            while let Some(records) = kept.next().await? {
                for record in records {
                    let id = String::from_utf8_lossy(&record.key);
                    if let Some(place) = missing.get_mut(id.as_ref()) {
                        *place = Some(record.position);
                    }
                }
            }
        }
        Ok(rows.into_iter().map(|row| place(row, &missing)).collect())
    }

    /// Where messages stand about which the abuse desk may not have been told.
    async fn still_to_be_reported(&self) -> anyhow::Result<Vec<Position>> {
        let mut positions = Vec::new();
        let mut unread = Unread::by(self.source, &groups::feedback()).await?;
        while let Some(records) = unread.next().await? {
            positions.extend(records.iter().filter_map(carry::told_about));
        }
        Ok(positions)
    }

    async fn verdicts_reported(&mut self) -> anyhow::Result<()> {
        let begins: HashMap<TopicPartition, u64> =
            Unread::by(self.source, &groups::feedback()).await?.begins().into_iter().collect();
        let mut writer = Writer::new(self.target);
        for at in source::partitions(self.source, Topic::Verdicts) {
            let unread_from = begins.get(&at).copied().unwrap_or(0);
            let mut kept = Kept::of(self.source, at).await?;
            while let Some(records) = kept.next().await? {
                for record in records.iter().filter(|record| record.position.offset < unread_from) {
                    let carried = carry::verdict(record, &self.messages.places);
                    if let Some(new) = self.carried(record, carried) {
                        self.moved.history(Topic::Verdicts);
                        writer.put(new).await?;
                    }
                }
            }
        }
        writer.write().await?;
        Ok(())
    }

    /// What the scorer still has to count of `attempts` comes last, with all that is unread.
    async fn attempts_counted(&mut self) -> anyhow::Result<()> {
        let begins: HashMap<TopicPartition, u64> =
            Unread::by(self.source, &groups::scorer()).await?.begins().into_iter().collect();
        let now = self.now;
        let is_counted = |record: &Record| {
            let unread_from = begins.get(&record.position.topic_partition()).copied().unwrap_or(0);
            record.position.offset < unread_from || !counts_still(record, now)
        };
        self.history(Topic::Attempts, is_counted).await
    }

    async fn history(&mut self, topic: Topic, is_moved: impl Fn(&Record) -> bool) -> anyhow::Result<()> {
        let mut writer = Writer::new(self.target);
        for at in source::partitions(self.source, topic) {
            let mut kept = Kept::of(self.source, at).await?;
            while let Some(records) = kept.next().await? {
                for record in records.iter().filter(|record| is_moved(record)) {
                    let carried = match topic {
                        Topic::Attempts => carry::attempt(record),
                        _ => Ok(carry::by_key(record)),
                    };
                    if let Some(new) = self.carried(record, carried) {
                        self.moved.history(topic);
                        writer.put(new).await?;
                    }
                }
            }
        }
        writer.write().await?;
        Ok(())
    }

    /// Who changed what. What an interrupted run wrote of it is its beginning, and is gone on from.
    async fn changes(&mut self) -> anyhow::Result<()> {
        let at = TopicPartition { topic: Topic::Changes, partition: 0 };
        let mut there = 0;
        let mut kept = Kept::of(self.target, at).await?;
        while let Some(records) = kept.next().await? {
            there += records.len();
        }
        let mut writer = Writer::new(self.target);
        let mut kept = Kept::of(self.source, at).await?;
        while let Some(records) = kept.next().await? {
            for record in &records {
                self.moved.history(Topic::Changes);
                if there > 0 {
                    there -= 1;
                } else {
                    writer.put(carry::by_key(record)).await?;
                }
            }
        }
        writer.write().await?;
        Ok(())
    }

    async fn write_rows(
        &mut self,
        topic: Topic,
        rows: Vec<Record>,
        beginning: Beginning,
    ) -> anyhow::Result<()> {
        let mut leftover = match beginning {
            Beginning::Fresh => None,
            Beginning::Again => Some(Leftover::of(self.target, topic).await?),
        };
        let mut writer = Writer::new(self.target);
        for row in &rows {
            let places = &self.messages.places;
            let carried = match topic {
                Topic::Queue => carry::queue_entry(row, places, self.now),
                Topic::Quarantine => carry::quarantine_row(row, places),
                Topic::Senders => carry::sender(row, places, self.now),
                _ => Ok(carry::by_key(row)),
            };
            let Some(new) = self.carried(row, carried) else { continue };
            if let Some(leftover) = &mut leftover {
                leftover.is_written(self.partition_of(&new), &new.key);
            }
            self.moved.row(topic);
            writer.put(new).await?;
        }
        if let Some(leftover) = leftover {
            for tombstone in leftover.tombstones(topic) {
                writer.put(tombstone).await?;
            }
        }
        writer.write().await?;
        Ok(())
    }

    fn partition_of(&self, record: &NewRecord) -> u32 {
        match &record.partitioning {
            eventlog::Partitioning::By(key) => self.target.partition_of(record.topic, key),
            eventlog::Partitioning::Partition(partition) => *partition,
        }
    }

    /// What each group has not come to: for it, the target begins here.
    async fn unread(&mut self) -> anyhow::Result<()> {
        for group in [groups::scorer(), groups::lane(self.node), groups::delivery(), groups::feedback()] {
            let is_lane = group == groups::lane(self.node);
            let mut unread = Unread::by(self.source, &group).await?;
            let mut writer = Writer::new(self.target);
            while let Some(records) = unread.next().await? {
                for record in &records {
                    // A command is carried out by one of two groups, and moved when that one has not come to it.
                    if record.position.topic == Topic::Commands && carry::is_for_a_lane(record) != is_lane {
                        continue;
                    }
                    if record.position.topic == Topic::Attempts && !counts_still(record, self.now) {
                        continue;
                    }
                    if matches!(record.position.topic, Topic::Accepted | Topic::Released) {
                        self.messages.bring_chunks(record, &mut self.moved).await?;
                    }
                    let places = &self.messages.places;
                    let carried = match record.position.topic {
                        Topic::Accepted => carry::accepted(record, places),
                        Topic::Released => carry::judged(record, places, false),
                        Topic::Commands => carry::command(record),
                        Topic::Attempts => carry::attempt(record),
                        _ => carry::verdict(record, places),
                    };
                    if let Some(new) = self.carried(record, carried) {
                        self.moved.unread(record.position.topic);
                        writer.put(new).await?;
                    }
                }
            }
            writer.write().await?;
        }
        Ok(())
    }

    fn carried(&mut self, record: &Record, carried: Result<NewRecord, Unreadable>) -> Option<NewRecord> {
        carried.map_err(|error| self.moved.unreadable(record, &error)).ok()
    }
}

/// Whether an attempt may still count for its sender: the windows it counts in are a day long.
fn counts_still(record: &Record, now: Timestamp) -> bool {
    now.since(record.appended_at) < Duration::from_secs(24 * 3600)
}

/// Where the messages stand that rows point to.
fn named_by(queue: &[Record], quarantine: &[Record], senders: &[Record]) -> Vec<Position> {
    let queued = queue.iter().filter_map(|row| Some(parsed::<QueueEntry>(row)?.position));
    let quarantined = quarantine.iter().filter_map(|row| Some(parsed::<QuarantineRow>(row)?.position));
    let held = senders.iter().filter_map(|row| Some(carry::hold(row).ok()??.position));
    queued.chain(quarantined).chain(held).collect()
}

fn parsed<T: serde::de::DeserializeOwned>(row: &Record) -> Option<T> {
    serde_json::from_slice(row.value.as_deref()?).ok()
}

/// The message id of a row of the quarantine that does not name the place of its message.
fn unplaced(row: &Record) -> Option<String> {
    let row: QuarantineRow = parsed(row)?;
    let is_unplaced = row.position.topic == Topic::Accepted && row.state == QuarantineState::In;
    is_unplaced.then(|| row.message.id.to_string())
}

fn place(row: Record, found: &HashMap<String, Option<Position>>) -> Record {
    let place = unplaced(&row).and_then(|id| found.get(&id).copied().flatten());
    let (Some(position), Some(parsed)) = (place, parsed::<QuarantineRow>(&row)) else { return row };
    let value = serde_json::to_vec(&QuarantineRow { position, ..parsed }).ok().map(Into::into);
    Record { value, ..row }
}
