//! The worker: one task that holds the lane, begins tries, and writes what came of them.

mod begin;
mod elsewhere;
mod finish;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, LogError, NewRecord, Record};
use schemas::commands::Command;
use schemas::queue::QueueEntry;
use schemas::topics::TopicPartition;
use schemas::{Timestamp, Topic};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::consumer::{Event, Handle};
use crate::lane::{Lane, State};
use crate::lane_rows::Arrivals;
use crate::message::Press;
use crate::own_mail::OwnMail;
use crate::site::{Ended, Key, Sites};
use crate::{Metrics, keep, lane_commands, lane_rows, records};

/// How long a graceful stop waits for what is under way.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// How often the age of queued messages is looked at.
const KEEP_EVERY: Duration = Duration::from_secs(600);

/// A lane about which nothing was written for so long may be another's by now: a process that was suspended does not know
/// what happened meanwhile. Less than it takes to lose a lane.
const SURE_FOR: Duration = Duration::from_secs(5);

/// Nothing is written to `queue` for a message that is finished before the next commit.
pub(crate) struct Worker {
    press: Arc<Press>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    node: String,
    sites: Sites,
    lane: Lane,
    /// What other nodes put into it and was taken in, by when it was put there.
    arrived: HashSet<(Key, Timestamp)>,
    /// Pools without a source that were told of.
    pools_told: HashSet<String>,
    /// Taken from `released` since the last commit and not finished: not in the lane yet.
    fresh: HashMap<Key, QueueEntry>,
    /// Groups being tried, by site.
    under_way: HashMap<String, usize>,
    /// Their messages, in bytes.
    bytes_under_way: u64,
    own_mail: OwnMail,
    /// The offset to commit, by partition of `released`.
    taken: HashMap<TopicPartition, u64>,
    /// With the partition that gave rise to each: another member takes it when the partition is lost.
    released_outputs: Vec<(TopicPartition, NewRecord)>,
    /// In the lane, but in the log only with the next commit of `released`.
    unwritten: Vec<(TopicPartition, Key)>,
    lane_outputs: Vec<NewRecord>,
    lane_offsets: Option<HashMap<TopicPartition, u64>>,
    /// Commands to read the lane again, not carried out yet.
    lane_reads: Vec<Command>,
    /// When a commit last showed that the lane is ours.
    sure_at: Timestamp,
}

impl Worker {
    pub(crate) fn new(
        press: Arc<Press>,
        metrics: Metrics,
        lane: Lane,
        results: mpsc::UnboundedSender<Ended>,
    ) -> Self {
        Worker {
            sure_at: press.clock.now(),
            sites: Sites::new(Arc::clone(&press), metrics.clone(), results),
            clock: Arc::clone(&press.clock),
            node: press.config.node.clone(),
            press,
            metrics,
            lane,
            arrived: HashSet::new(),
            pools_told: HashSet::new(),
            fresh: HashMap::new(),
            under_way: HashMap::new(),
            bytes_under_way: 0,
            own_mail: OwnMail::default(),
            taken: HashMap::new(),
            released_outputs: Vec::new(),
            unwritten: Vec::new(),
            lane_outputs: Vec::new(),
            lane_offsets: None,
            lane_reads: Vec::new(),
        }
    }

    pub(crate) async fn work(
        mut self,
        released: Handle,
        lane_consumer: Handle,
        mut arrivals: Arrivals,
        mut tried: mpsc::UnboundedReceiver<Ended>,
        shutdown: &CancellationToken,
    ) -> Result<(), LogError> {
        let mut commit_tick = tokio::time::interval(self.press.config.commit_interval);
        commit_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_keep = self.clock.now();
        let mut stopping_since: Option<tokio::time::Instant> = None;
        loop {
            let now = self.clock.now();
            let stopping = stopping_since.is_some();
            if !stopping {
                self.make_sure(&released, &lane_consumer, now).await?;
                self.start(now).await;
            }
            if now >= next_keep {
                next_keep = self.keep(&released, &lane_consumer, now).await?;
            }
            let wake_at = self.lane.next_due().map_or(next_keep, |due| due.min(next_keep));
            let has_room = self.has_room();
            let clock = Arc::clone(&self.clock);
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !stopping => {
                    self.sites.drain();
                    stopping_since = Some(tokio::time::Instant::now());
                }
                result = tried.recv() => if let Some(result) = result {
                    self.ended(result).await;
                    while let Ok(result) = tried.try_recv() {
                        self.ended(result).await;
                    }
                },
                _ = commit_tick.tick() => self.commit(&released, &lane_consumer).await?,
                event = released.next(), if has_room && !stopping => match event {
                    Event::Records(records) => self.take(records),
                    Event::Revoked(lost) => self.give_up(&lost),
                    Event::Lost(error) => return Err(error),
                },
                event = lane_consumer.next() => match event {
                    Event::Records(records) => {
                        self.commanded(&records);
                        if !self.lane_reads.is_empty() {
                            self.read_lane_again(&released, &lane_consumer, &mut arrivals).await?;
                        }
                    }
                    // The lane's group has this one member: what it lost comes back with an assignment.
                    Event::Revoked(_) => {}
                    Event::Lost(error) => return Err(error),
                },
                arrived = arrivals.next(), if !stopping => self.take_in(arrived?),
                // While stopping nothing that falls due is begun, so nothing is woken for.
                () = clock.sleep_until(wake_at), if !stopping && (has_room || wake_at == next_keep) => {}
            }
            self.metrics.in_flight.set(self.in_flight() as i64);
            self.metrics.waiting.set(released.waiting() as i64);
            if let Some(since) = stopping_since
                && ((self.sites.running() == 0 && tried.is_empty()) || since.elapsed() >= DRAIN)
            {
                return self.commit(&released, &lane_consumer).await;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.under_way.values().sum()
    }

    fn has_room(&self) -> bool {
        let config = &self.press.config;
        self.in_flight() < config.max_in_flight && self.bytes_under_way < config.max_in_flight_bytes
    }

    fn commanded(&mut self, records: &[Record]) {
        let now = self.clock.now();
        self.settle_fresh();
        let reply_partitions = self.press.log.partitions(Topic::Replies);
        for record in records {
            let offsets = self.lane_offsets.get_or_insert_default();
            offsets.insert(record.position.topic_partition(), record.position.offset + 1);
            let Some(value) = &record.value else { continue };
            match serde_json::from_slice::<Command>(value) {
                Ok(command) if lane_commands::says_read(&command, &self.node) => {
                    self.lane_reads.push(command);
                }
                Ok(command) => {
                    // What was decided before must be written before.
                    let carried =
                        lane_commands::carry_out(&mut self.lane, &command, &self.node, now, reply_partitions);
                    self.lane_outputs.extend(carried.into_iter().flat_map(|carried| carried.outputs));
                }
                Err(error) => {
                    self.metrics.undecodable.inc();
                    tracing::error!(position = %record.position, %error, "a command does not parse, it is passed over");
                }
            }
        }
    }

    /// Takes in what was moved into this lane. Everything that is known here is written first and nothing is worked on
    /// meanwhile, so that an entry which is in the log and not here came from elsewhere.
    async fn read_lane_again(
        &mut self,
        released: &Handle,
        lane_consumer: &Handle,
        arrivals: &mut Arrivals,
    ) -> Result<(), LogError> {
        self.commit(released, lane_consumer).await?;
        let found = match lane_rows::read(&self.press.log, &self.node, &self.metrics).await {
            Ok((entries, rest)) => {
                *arrivals = rest;
                Some(self.lane.take_in(entries))
            }
            Err(error) => {
                tracing::warn!(%error, "the lane cannot be read again now");
                None
            }
        };
        tracing::info!(found, "lane read again");
        let reply_partitions = self.press.log.partitions(Topic::Replies);
        for command in self.lane_reads.drain(..) {
            self.lane_outputs.extend(lane_commands::lane_was_read(&command, found, reply_partitions));
        }
        Ok(())
    }

    /// Before anything is sent from a lane that was quiet: writes one of its entries as it is, which only the owner can.
    async fn make_sure(
        &mut self,
        released: &Handle,
        lane_consumer: &Handle,
        now: Timestamp,
    ) -> Result<(), LogError> {
        if now.since(self.sure_at) < SURE_FOR || !self.lane.has_work(now) || !self.has_room() {
            return Ok(());
        }
        self.commit(released, lane_consumer).await?;
        if now.since(self.sure_at) >= SURE_FOR
            && let Some((_, entry)) = self.lane.keys().next()
        {
            lane_consumer.commit(records::entry(entry).into_iter().collect(), None).await?;
            self.sure_at = self.clock.now();
        }
        Ok(())
    }

    /// What is still being tried gets its queue entry.
    fn settle_fresh(&mut self) {
        for entry in std::mem::take(&mut self.fresh).into_values() {
            self.settle(entry, State::InFlight);
        }
    }

    /// Puts an entry into the lane that the next commit of `released` writes.
    fn settle(&mut self, entry: QueueEntry, state: State) {
        let partition = entry.position.topic_partition();
        self.released_outputs.extend(records::entry(&entry).map(|record| (partition, record)));
        self.unwritten.push((partition, (entry.message.id, entry.site.clone())));
        self.lane.put(entry, state);
    }

    /// Forgets what came of partitions that another member has now and takes again from the last commit: each of its
    /// messages must have one lane. What is being tried at this moment is delivered twice at worst.
    fn give_up(&mut self, lost: &[TopicPartition]) {
        let is_lost = |of: &TopicPartition| lost.contains(of);
        self.taken.retain(|of, _| !is_lost(of));
        self.released_outputs.retain(|(of, _)| !is_lost(of));
        self.fresh.retain(|_, entry| !is_lost(&entry.position.topic_partition()));
        self.own_mail.give_up(is_lost);
        for (of, key) in std::mem::take(&mut self.unwritten) {
            if is_lost(&of) {
                self.lane.take(&key);
            } else {
                self.unwritten.push((of, key));
            }
        }
    }

    /// Writes everything since the last commit. What is still being tried gets its queue entry in the step that moves the
    /// offset past it; entries change after they exist, so the lane's commit comes second.
    async fn commit(&mut self, released: &Handle, lane_consumer: &Handle) -> Result<(), LogError> {
        if !self.taken.is_empty() || !self.released_outputs.is_empty() {
            self.settle_fresh();
            let outputs = std::mem::take(&mut self.released_outputs).into_iter().map(|(_, record)| record);
            let next =
                (!self.taken.is_empty()).then(|| std::mem::take(&mut self.taken).into_iter().collect());
            released.commit(outputs.collect(), next).await?;
            self.unwritten.clear();
            self.own_mail.committed();
        }
        if !self.lane_outputs.is_empty() || self.lane_offsets.is_some() {
            let outputs = std::mem::take(&mut self.lane_outputs);
            let next = self.lane_offsets.take().map(|offsets| offsets.into_iter().collect());
            lane_consumer.commit(outputs, next).await?;
            self.sure_at = self.clock.now();
        }
        self.metrics.queued.set(self.lane.len() as i64);
        Ok(())
    }

    /// Retention never eats mail. Says when to look again.
    async fn keep(
        &mut self,
        released: &Handle,
        lane_consumer: &Handle,
        now: Timestamp,
    ) -> Result<Timestamp, LogError> {
        // What is waiting to be written about an entry must not come after its new position.
        self.commit(released, lane_consumer).await?;
        let more = keep::write_anew(&mut self.lane, &self.press.log, lane_consumer, now).await?;
        Ok(if more { now } else { now.plus(KEEP_EVERY) })
    }
}
