//! The worker: takes messages from `released`, has them tried, and keeps what is unfinished in its lane.
//!
//! Two consumers: `released` moves with what it took, the lane's with everything that happens to queue entries. Nothing
//! is written to `queue` for a message that is finished before the next commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, LogError, NewRecord, Record, TableEvent, View};
use schemas::attempt::Outcome;
use schemas::commands::Command;
use schemas::queue::{self, QueueEntry, QueuedRecipient};
use schemas::settings::SettingsView;
use schemas::topics::TopicPartition;
use schemas::{MessageId, Position, Timestamp, Topic};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::consumer::{self, Event, Handle};
use crate::dkim::Signers;
use crate::dns::Dns;
use crate::dsn::{self, Kind};
use crate::lane::{self, Lane, Rules};
use crate::message::{Message, Press, SharedMessage};
use crate::metrics::OutcomeLabel;
use crate::site::{Job, Key, Sites, Tried};
use crate::tls::ClientTls;
use crate::users::Users;
use crate::{Config, Error, Metrics, egress, keep, lane_commands, records, route};

/// How long a graceful stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);
/// Before the worker begins anew after it lost its place.
const REJOIN: Duration = Duration::from_secs(1);
/// How often the age of queued messages is looked at.
const KEEP_EVERY: Duration = Duration::from_secs(600);
/// Messages of our own that are remembered, so that none is sent twice after a commit of unknown fate.
const OWN_REMEMBERED: usize = 10_000;
/// How long a group waits when its site has too many under way.
const SITE_BUSY: Duration = Duration::from_secs(2);

/// Runs until `shutdown`.
///
/// # Errors
/// When the resolver cannot be set up or the root certificates cannot be read. A log that is away is waited for.
pub async fn run(
    config: Config,
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let press = Arc::new(Press {
        dns: Dns::new(&config)?,
        tls: ClientTls::new(config.tls_roots_file.as_deref())?,
        clock: Arc::clone(&clock),
        users: Users::default(),
        signers: Signers::default(),
        config,
        log,
        settings,
    });
    while !shutdown.is_cancelled() {
        let served = tokio::select! {
            served = serve(&press, &clock, &metrics, &shutdown) => served,
            () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN * 2).await } => return Ok(()),
        };
        match served {
            Ok(()) | Err(LogError::Closed) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "delivery lost its place and begins anew");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(REJOIN) => {}
                }
            }
        }
    }
    Ok(())
}

async fn serve(
    press: &Arc<Press>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Result<(), LogError> {
    let node = press.config.node.clone();
    press.settings.caught_up().await;
    // The lane's consumer first: it fences a predecessor, whose last commit is then in the table.
    let lane_group = format!("lane-{node}");
    let lane_consumer = consumer::start(press.log.join(&lane_group, &node, &[Topic::Commands]).await?);
    let lane = read_lane(&press.log, &node).await?;
    let released = consumer::start(press.log.join("delivery", &node, &[Topic::Released]).await?);
    metrics.queued.set(lane.len() as i64);
    tracing::info!(entries = lane.len(), "lane read, delivery begins");
    let (results, tried) = mpsc::unbounded_channel();
    let worker = Worker {
        sites: Sites::new(Arc::clone(press), metrics.clone(), results),
        press: Arc::clone(press),
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        lane,
        fresh: HashMap::new(),
        under_way: HashMap::new(),
        bytes_under_way: 0,
        own_seen: HashSet::new(),
        taken: HashMap::new(),
        released_outputs: Vec::new(),
        lane_outputs: Vec::new(),
        lane_offsets: None,
        node,
    };
    Box::pin(worker.work(released, lane_consumer, tried, shutdown)).await
}

/// The queue entries of this node, as they stand in the log.
async fn read_lane(log: &Log, node: &str) -> Result<Lane, LogError> {
    let partition = log.partition_of(Topic::Queue, &queue::lane_key(node));
    let mut table = log.table(Topic::Queue, Some(&[partition])).await?;
    let mut rows: HashMap<bytes::Bytes, QueueEntry> = HashMap::new();
    loop {
        for event in table.next(1000).await? {
            match event {
                TableEvent::CaughtUp => {
                    let mut lane = Lane::default();
                    rows.into_values().for_each(|entry| lane.put(entry, false));
                    return Ok(lane);
                }
                TableEvent::Row(Record { key, value: None, .. }) => drop(rows.remove(&key)),
                TableEvent::Row(Record { key, value: Some(value), position, .. }) => {
                    match serde_json::from_slice::<QueueEntry>(&value) {
                        Ok(entry) if entry.node == node => drop(rows.insert(key, entry)),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::error!(%position, %error, "a queue entry does not parse; its message is not delivered");
                        }
                    }
                }
            }
        }
    }
}

struct Worker {
    press: Arc<Press>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    node: String,
    sites: Sites,
    lane: Lane,
    /// Taken from `released` since the last commit and not finished: not in the lane yet.
    fresh: HashMap<Key, QueueEntry>,
    /// Groups being tried, by site.
    under_way: HashMap<String, usize>,
    /// Their messages, in bytes.
    bytes_under_way: u64,
    /// Messages of our own that were taken.
    own_seen: HashSet<MessageId>,
    /// The offset to commit, by partition of `released`.
    taken: HashMap<TopicPartition, u64>,
    released_outputs: Vec<NewRecord>,
    lane_outputs: Vec<NewRecord>,
    lane_offsets: Option<HashMap<TopicPartition, u64>>,
}

impl Worker {
    async fn work(
        mut self,
        mut released: Handle,
        mut lane_consumer: Handle,
        mut tried: mpsc::UnboundedReceiver<Tried>,
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
                self.start_due(now).await;
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
                    self.finished(result).await;
                    while let Ok(result) = tried.try_recv() {
                        self.finished(result).await;
                    }
                },
                _ = commit_tick.tick() => self.commit(&released, &lane_consumer).await?,
                event = released.events.recv(), if has_room && !stopping => match event {
                    Some(Event::Records(records)) => self.take(records),
                    Some(Event::Lost(error)) => return Err(error),
                    None => return Err(LogError::Closed),
                },
                event = lane_consumer.events.recv() => match event {
                    Some(Event::Records(records)) => self.commanded(&records),
                    Some(Event::Lost(error)) => return Err(error),
                    None => return Err(LogError::Closed),
                },
                // While stopping nothing that falls due is begun, so nothing is woken for.
                () = clock.sleep_until(wake_at), if !stopping && (has_room || wake_at == next_keep) => {}
            }
            self.metrics.in_flight.set(self.in_flight() as i64);
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

    /// Takes records of `released`: each group of recipients is tried at once, or put off when its site has its fill.
    fn take(&mut self, records: Vec<Record>) {
        for record in records {
            self.taken.insert(record.position.topic_partition(), record.position.offset + 1);
            match Message::from_record(&record) {
                // A kept copy: its queue entry is in the lane.
                Ok(message) if message.judged.kept => {}
                Ok(message) if message.judged.envelope.origin.is_some() && !self.is_first(&message) => {}
                Ok(message) => self.take_message(&Arc::new(message)),
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a record of `released` does not parse, it is passed over");
                }
            }
        }
    }

    /// Whether this message of our own is seen for the first time.
    fn is_first(&mut self, message: &Message) -> bool {
        if self.own_seen.len() >= OWN_REMEMBERED {
            self.own_seen.clear();
        }
        self.own_seen.insert(message.judged.envelope.id)
    }

    fn take_message(&mut self, message: &SharedMessage) {
        let now = self.clock.now();
        let sites = {
            let settings = self.press.settings.read();
            route::by_site(
                &message.judged.envelope.recipients,
                self.press.config.relay_host.as_deref(),
                &settings,
            )
        };
        for (site, indexes) in sites {
            let entry = self.new_entry(message, site, &indexes, now);
            let key = (entry.message.id, entry.site.clone());
            if self.is_busy(&entry.site) {
                self.released_outputs.extend(records::entry(&entry));
                self.lane.put(QueueEntry { next_attempt: now.plus(SITE_BUSY), ..entry }, false);
                continue;
            }
            self.dispatch(key.clone(), Arc::clone(message), &entry);
            self.fresh.insert(key, entry);
        }
    }

    fn new_entry(
        &self,
        message: &SharedMessage,
        site: String,
        indexes: &[u32],
        now: Timestamp,
    ) -> QueueEntry {
        let judged = &message.judged;
        let max_retry = self.press.users.get(&self.press.settings.read(), &judged.envelope.user).max_retry;
        let recipient = |index: &u32| {
            let forward_path = judged.envelope.recipients.get(*index as usize)?.forward_path.clone();
            Some(QueuedRecipient { index: *index, forward_path, last_reply: None })
        };
        QueueEntry {
            message: judged.message.clone(),
            node: self.node.clone(),
            site,
            recipients: indexes.iter().filter_map(recipient).collect(),
            queued_at: now,
            tries: 0,
            next_attempt: now,
            expires_at: now.plus(max_retry),
            held: false,
            delay_notice_sent: false,
            route: None,
            position: message.position,
            stored_at: message.stored_at,
        }
    }

    fn is_busy(&self, site: &str) -> bool {
        self.under_way.get(site).is_some_and(|n| *n >= self.press.config.max_in_flight_per_site)
    }

    fn dispatch(&mut self, key: Key, message: SharedMessage, entry: &QueueEntry) {
        *self.under_way.entry(entry.site.clone()).or_default() += 1;
        self.bytes_under_way += message.judged.envelope.size_bytes;
        let source = {
            let settings = self.press.settings.read();
            let user = self.press.users.get(&settings, &entry.message.user);
            egress::choose(&settings, &self.node, user.delivery_pool.as_deref(), entry.message.id)
        };
        self.sites.dispatch(Job {
            key,
            message,
            recipients: entry.recipients.iter().map(|r| r.index).collect(),
            source,
            target: entry.route.clone().unwrap_or_else(|| entry.site.clone()),
        });
    }

    /// Tries what is due, as far as there is room.
    async fn start_due(&mut self, now: Timestamp) {
        while self.has_room() {
            let Some((key, entry)) = self.lane.start_due(now) else { return };
            if self.is_busy(&entry.site) {
                self.lane.postpone(&key, now.plus(SITE_BUSY));
                continue;
            }
            match read_message(&self.press.log, entry.position).await {
                Ok(Some(message)) => self.dispatch(key, message, &entry),
                Ok(None) => {
                    tracing::error!(message.id = %key.0, position = %entry.position, "a queued message is no longer in the log; it is held for an operator");
                    let held = QueueEntry { held: true, ..entry };
                    self.lane_outputs.extend(records::entry(&held));
                    self.lane.put(held, false);
                }
                Err(error) => {
                    tracing::warn!(message.id = %key.0, %error, "a queued message cannot be read now");
                    self.lane.postpone(&key, now.plus(Duration::from_secs(5)));
                }
            }
        }
    }

    /// A try is over: what follows from it is written with the next commit.
    async fn finished(&mut self, tried: Tried) {
        let now = self.clock.now();
        if let Some(n) = self.under_way.get_mut(&tried.key.1) {
            *n -= 1;
            if *n == 0 {
                self.under_way.remove(&tried.key.1);
            }
        }
        self.bytes_under_way = self.bytes_under_way.saturating_sub(tried.message.judged.envelope.size_bytes);
        let was_fresh = self.fresh.remove(&tried.key);
        let is_fresh = was_fresh.is_some();
        let Some(entry) = was_fresh.or_else(|| self.lane.get(&tried.key).cloned()) else { return };
        let rules = Rules {
            node: &self.node,
            retry: &self.press.config.retry,
            delay_notice_after: self.press.config.delay_notice_after,
        };
        let after = lane::after(&entry, &tried, &rules, now);
        let mut outputs = Vec::new();
        self.tell_sender(&tried, &after, now, &mut outputs).await;
        self.count(&after.attempt, now);
        outputs.extend(records::attempt(after.attempt));
        match after.left {
            Some(left) => {
                outputs.extend(records::entry(&left));
                self.lane.put(left, false);
            }
            None if is_fresh => {}
            None => {
                self.lane.take(&tried.key);
                outputs.push(records::tombstone(&self.node, &tried.key));
            }
        }
        if is_fresh { self.released_outputs.extend(outputs) } else { self.lane_outputs.extend(outputs) }
    }

    fn count(&self, attempt: &schemas::attempt::Attempt, now: Timestamp) {
        for result in &attempt.recipients {
            self.metrics.recipients.get_or_create(&OutcomeLabel { outcome: result.outcome.code() }).inc();
            if result.outcome == Outcome::Delivered {
                self.metrics.delivery_seconds.observe(now.since(attempt.message.accepted_at).as_secs_f64());
            }
        }
    }

    async fn tell_sender(
        &self,
        tried: &Tried,
        after: &lane::Aftermath,
        now: Timestamp,
        outputs: &mut Vec<NewRecord>,
    ) {
        for kind in [Kind::Failed, Kind::Delayed, Kind::Relayed] {
            if kind == Kind::Delayed && !after.delay_notice {
                continue;
            }
            let recipients = dsn::recipients(kind, &tried.message.judged, &after.attempt, tried.peer_reports);
            if recipients.is_empty() {
                continue;
            }
            let raw = tried.message.raw(&self.press.log).await.unwrap_or_default();
            for (part, recipients) in recipients.chunks(dsn::MAX_RECIPIENTS).enumerate() {
                let report = dsn::Report {
                    kind,
                    part,
                    judged: &tried.message.judged,
                    attempt: &after.attempt,
                    recipients,
                    raw: &raw,
                    hostname: &self.press.config.hostname,
                    node: &self.node,
                    now,
                };
                let built = dsn::build(&report);
                outputs.extend(built.and_then(|(judged, bytes)| records::own_mail(&judged, &bytes)));
            }
        }
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
                Ok(command) => {
                    // What was decided before must be written before.
                    let carried =
                        lane_commands::carry_out(&mut self.lane, &command, &self.node, now, reply_partitions);
                    self.lane_outputs.extend(carried.into_iter().flat_map(|carried| carried.outputs));
                }
                Err(error) => {
                    tracing::error!(position = %record.position, %error, "a command does not parse, it is passed over");
                }
            }
        }
    }

    /// What is still being tried gets its queue entry.
    fn settle_fresh(&mut self) {
        for (_, entry) in self.fresh.drain() {
            self.released_outputs.extend(records::entry(&entry));
            self.lane.put(entry, true);
        }
    }

    /// Writes everything since the last commit. What is still being tried gets its queue entry in the step that moves the
    /// offset past it; entries change after they exist, so the lane's commit comes second.
    async fn commit(&mut self, released: &Handle, lane_consumer: &Handle) -> Result<(), LogError> {
        if !self.taken.is_empty() || !self.released_outputs.is_empty() {
            self.settle_fresh();
            let outputs = std::mem::take(&mut self.released_outputs);
            let next =
                (!self.taken.is_empty()).then(|| std::mem::take(&mut self.taken).into_iter().collect());
            released.commit(outputs, next).await?;
        }
        if !self.lane_outputs.is_empty() || self.lane_offsets.is_some() {
            let outputs = std::mem::take(&mut self.lane_outputs);
            let next = self.lane_offsets.take().map(|offsets| offsets.into_iter().collect());
            lane_consumer.commit(outputs, next).await?;
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

async fn read_message(log: &Log, position: Position) -> Result<Option<SharedMessage>, LogError> {
    let Some(record) = log.read(position).await? else { return Ok(None) };
    let damaged =
        |error: schemas::spool::SpoolError| LogError::Damaged { position, detail: error.to_string() };
    Ok(Some(Arc::new(Message::from_record(&record).map_err(damaged)?)))
}
