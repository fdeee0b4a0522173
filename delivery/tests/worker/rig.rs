//! The worker on a real log in a directory of its own, under a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delivery::{Config, Metrics};
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{EventLog, ManualClock, NewRecord, TableEvent, TailFrom, View};
use schemas::attempt::{Attempt, AttemptEvent, Outcome};
use schemas::commands::{Action, Command};
use schemas::envelope::{BodyType, Client, Envelope, Recipient};
use schemas::queue::QueueEntry;
use schemas::reply::Reply;
use schemas::senders::{Lock, SenderRow, SendersView};
use schemas::settings::{
    EgressPool, EgressSource, OutgoingUser, Setting, SettingsView, StaticRoute, UserAuth, UserSettings,
    WeightedSource,
};
use schemas::verdict::{Classification, Identity, Judged, MessageSummary};
use schemas::{Domain, Mailbox, MessageId, ReversePath, Timestamp, Topic, UserId, spool};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::MAIL;

pub const NODE: &str = "node1";
pub const DAY: Duration = Duration::from_secs(24 * 3600);
pub const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

pub type Worker = tokio::task::JoinHandle<Result<(), delivery::Error>>;

pub struct Rig {
    pub clock: ManualClock,
    pub config: Config,
    directory: TempDir,
    running: Option<Running>,
}

struct Running {
    log: Arc<EmbeddedLog>,
    /// The views that the worker reads.
    settings: View<SettingsView>,
    senders: View<SendersView>,
    metrics: Metrics,
    shutdown: CancellationToken,
    worker: Worker,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(NODE.into(), "relay.example".into());
        // Nobody answers there; a test that needs DNS says so.
        config.dns_servers = vec!["127.0.0.1:1".parse().expect("an address")];
        config.down_for = Duration::from_secs(1);
        config.command_timeout = Duration::from_secs(5);
        config.data_timeout = Duration::from_secs(5);
        change(&mut config);
        let mut rig = Rig {
            clock: ManualClock::starting_at(Timestamp(1_795_512_600_000)),
            config,
            directory: tempfile::tempdir().expect("a directory"),
            running: None,
        };
        rig.boot().await;
        rig
    }

    /// Opens the log and starts the worker.
    pub async fn boot(&mut self) {
        let clock = self.shared_clock();
        let mut config = EmbeddedConfig::new(self.directory.path());
        config.min_free_bytes = 0;
        let log = EmbeddedLog::open(config, Arc::clone(&clock)).expect("the log opens");
        let shared: eventlog::Log = Arc::clone(&log) as _;
        let shutdown = CancellationToken::new();
        let settings = eventlog::view::settings(Arc::clone(&shared), shutdown.clone());
        let metrics = no_metrics();
        let senders = eventlog::view::senders(Arc::clone(&shared), shutdown.clone());
        let run = delivery::run(
            self.config.clone(),
            shared,
            clock,
            settings.clone(),
            senders.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        self.running = Some(Running { log, settings, senders, metrics, shutdown, worker: tokio::spawn(run) });
    }

    /// Starts another node's worker on the same log.
    pub async fn boot_neighbour(&self, node: &str) -> (CancellationToken, Worker) {
        self.boot_neighbour_with(node, no_metrics(), |_| {}).await
    }

    pub async fn boot_neighbour_with(
        &self,
        node: &str,
        metrics: Metrics,
        change: impl FnOnce(&mut Config),
    ) -> (CancellationToken, Worker) {
        let mut config = self.config.clone();
        config.node = node.into();
        config.hostname = format!("{node}.example");
        change(&mut config);
        let (running, shutdown) = (self.running(), CancellationToken::new());
        let log: eventlog::Log = Arc::clone(&running.log) as _;
        let (settings, senders) = (running.settings.clone(), running.senders.clone());
        let run =
            delivery::run(config, log, self.shared_clock(), settings, senders, metrics, shutdown.clone());
        (shutdown, tokio::spawn(run))
    }

    fn shared_clock(&self) -> Arc<dyn eventlog::Clock> {
        Arc::new(self.clock.clone())
    }

    /// Stops the worker and closes the log.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, running.worker).await.expect("it stops in time");
        ended.expect("no panic").expect("no error");
        running.log.close().await;
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// Messages that the worker has been given and has no room for.
    pub fn waiting(&self) -> usize {
        self.running().metrics.waiting.get() as usize
    }

    pub fn log(&self) -> &Arc<EmbeddedLog> {
        &self.running().log
    }

    /// Writes a row and waits until the worker's view has it: the tests are all that writes this topic.
    async fn put<T: Send + Sync + 'static>(&self, view: &View<T>, record: NewRecord) {
        view.caught_up().await;
        let mut changes = view.changes();
        changes.mark_unchanged();
        self.log().append(vec![record]).await.expect("a row");
        tokio::time::timeout(PATIENCE, changes.changed()).await.expect("in time").expect("the view lives");
    }

    /// Sends all mail of `domain` to a port here.
    pub async fn route(&self, domain: &str, port: u16) {
        let domain = Domain::parse(domain).expect("a domain");
        self.set(Setting::Route(StaticRoute { domain, host: format!("127.0.0.1:{port}") })).await;
    }

    pub async fn set(&self, setting: Setting) {
        let value = serde_json::to_vec(&setting).expect("JSON");
        let record = NewRecord::new(Topic::Settings, setting.key(), setting.key(), value);
        self.put(&self.running().settings, record).await;
    }

    /// A pool of these addresses, each with its node.
    pub async fn set_pool(&self, name: &str, sources: &[(&str, &str)]) {
        let mut members = Vec::new();
        for (ip, node) in sources {
            let ip = ip.parse().expect("an address");
            members.push(WeightedSource { ip, weight: 1 });
            let ehlo = Some(format!("out.{node}.example"));
            self.set(Setting::EgressSource(EgressSource { node: (*node).into(), ip, ehlo })).await;
        }
        self.set(Setting::EgressPool(EgressPool { name: name.into(), sources: members })).await;
    }

    /// The pool of the user that mail is released for.
    pub async fn use_pool(&self, name: &str) {
        let settings = UserSettings { delivery_pool: Some(name.into()), ..UserSettings::default() };
        let domain = Domain::parse("customer.example").expect("a domain");
        let auth = UserAuth::Password { login: "customer.example".into(), password_hash: String::new() };
        self.set(Setting::OutgoingUser(OutgoingUser { domain, auth, settings })).await;
    }

    pub fn metrics(&self) -> &Metrics {
        &self.running().metrics
    }

    /// Locks the identity `shop`, or unlocks it.
    pub async fn set_lock(&self, locked: bool) {
        let sample = include_str!("../../../schemas/golden/senders/identity.json");
        let mut row: SenderRow = serde_json::from_str(sample).expect("a row");
        row.user = UserId("customer.example".into());
        row.identity = Some(Identity("shop".into()));
        let lock = Lock { since: Timestamp(0), until: None, by: "test".into(), reason: "a test".into() };
        row.lock = locked.then_some(lock);
        let key = schemas::senders::key(&row.user, row.identity.as_ref());
        let value = serde_json::to_vec(&row).expect("JSON");
        let record = NewRecord::new(Topic::Senders, row.user.0, key, value);
        self.put(&self.running().senders, record).await;
    }

    /// Releases a message to these recipients.
    pub async fn release(&self, to: &[&str], message: &str) -> MessageId {
        self.release_as(to, message, |_| {}).await
    }

    pub async fn release_as(
        &self,
        to: &[&str],
        message: &str,
        change: impl FnOnce(&mut Judged),
    ) -> MessageId {
        let mut judged = judged(to, message, eventlog::Clock::now(&self.clock));
        change(&mut judged);
        self.log().append(vec![released(&judged, message)]).await.expect("released");
        judged.envelope.id
    }

    /// Releases a message of each user to each recipient, all at once.
    pub async fn release_all(&self, to: impl Iterator<Item = (String, String)>) -> Vec<MessageId> {
        let release = |(user, to): (String, String)| {
            let mut judged = judged(&[&to], MAIL, eventlog::Clock::now(&self.clock));
            judged.envelope.user = UserId(user.clone());
            judged.message.user = UserId(user);
            (judged.envelope.id, released(&judged, MAIL))
        };
        let (ids, records) = to.map(release).unzip();
        self.log().append(records).await.expect("released");
        ids
    }

    /// All attempts, in the order of their partitions.
    pub async fn attempts(&self) -> Vec<Attempt> {
        let events = self.read_all(Topic::Attempts).await;
        let attempt = |value: Bytes| match serde_json::from_slice(&value).expect("an event") {
            AttemptEvent::Attempt(attempt) => Some(attempt),
            AttemptEvent::Unknown => None,
        };
        events.into_iter().filter_map(attempt).collect()
    }

    /// How much mail of our own there is.
    pub async fn own_mail(&self) -> usize {
        let released = self.read_all(Topic::Released).await;
        let is_own = |value: &Bytes| spool::decode::<Judged>(value).is_ok_and(|(head, _)| head.message.own);
        released.iter().filter(|value| is_own(value)).count()
    }

    /// What became of each recipient in attempt after attempt: `a@x.example delivered`.
    pub async fn outcomes(&self) -> Vec<String> {
        let line = |attempt: &Attempt| {
            let each = attempt.recipients.iter();
            each.map(|r| format!("{} {}", r.forward_path, r.outcome.code())).collect::<Vec<_>>()
        };
        self.attempts().await.iter().flat_map(line).collect()
    }

    pub async fn wait_for_outcome(&self, line: &str) {
        self.wait_for(line, async |rig: &Rig| rig.outcomes().await.iter().any(|l| l == line)).await;
    }

    /// Waits until the queue is as long as that.
    pub async fn wait_for_queue(&self, len: usize) -> Vec<QueueEntry> {
        self.wait_for("the queue", async |rig: &Rig| rig.queue().await.len() == len).await;
        self.queue().await
    }

    /// Waits until every queued message was written anew.
    pub async fn wait_for_copies(&self, since: Timestamp) {
        self.wait_for("copies", async |rig: &Rig| {
            rig.queue().await.iter().all(|entry| entry.stored_at >= since)
        })
        .await;
    }

    pub async fn wait_for(&self, what: &str, predicate: impl AsyncFn(&Rig) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !predicate(self).await {
            let outcomes = self.outcomes().await;
            assert!(tokio::time::Instant::now() < deadline, "waited for {what}; outcomes: {outcomes:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The queue as the log has it.
    pub async fn queue(&self) -> Vec<QueueEntry> {
        let mut table = self.log().table(Topic::Queue, None).await.expect("a table");
        let mut rows = std::collections::BTreeMap::new();
        loop {
            for event in table.next(1000).await.expect("rows") {
                match event {
                    TableEvent::CaughtUp => return rows.into_values().collect(),
                    TableEvent::Row(record) => {
                        // Two lanes may have the same entry, one of them its end.
                        let key = (record.position.partition, record.key);
                        // A test may have put something else there.
                        match record.value.map(|value| serde_json::from_slice::<QueueEntry>(&value)) {
                            Some(Ok(entry)) => drop(rows.insert(key, entry)),
                            Some(Err(_)) => {}
                            None => drop(rows.remove(&key)),
                        }
                    }
                }
            }
        }
    }

    async fn read_all(&self, topic: Topic) -> Vec<Bytes> {
        let log = self.log();
        let mut values = Vec::new();
        for partition in 0..log.partitions(topic) {
            let mut tail = log.tail(topic, partition, TailFrom::Offset(0)).await.expect("a tail");
            let patience = Duration::from_millis(10);
            while let Ok(records) = tokio::time::timeout(patience, tail.next(1000)).await {
                values.extend(records.expect("records").into_iter().filter_map(|record| record.value));
            }
        }
        values
    }

    /// Gives a command and waits for the answer: how many entries, and the text.
    pub async fn command(&self, action: Action) -> (u64, String) {
        let id = MessageId::new(eventlog::Clock::now(&self.clock)).to_string();
        let partition_key = action.partition_key();
        let at = eventlog::Clock::now(&self.clock);
        let command = Command { id: id.clone(), by: "test".into(), at, reply_partition: Some(0), action };
        let value = serde_json::to_vec(&command).expect("JSON");
        let record = NewRecord::new(Topic::Commands, partition_key, id.clone(), value);
        self.log().append(vec![record]).await.expect("a command");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            for value in self.read_all(Topic::Replies).await {
                if let Ok(Reply::Command { command_id, affected, text, .. }) = serde_json::from_slice(&value)
                    && command_id == id
                {
                    return (affected, text);
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "no answer to the command");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Metrics that nobody scrapes.
pub fn no_metrics() -> Metrics {
    Metrics::new(&mut prometheus_client::registry::Registry::default())
}

pub fn count(attempts: &[Attempt], outcome: Outcome) -> usize {
    attempts.iter().flat_map(|attempt| &attempt.recipients).filter(|r| r.outcome == outcome).count()
}

fn released(judged: &Judged, message: &str) -> NewRecord {
    let value = spool::encode(judged, message.as_bytes()).expect("a record");
    let id = judged.envelope.id.to_string();
    NewRecord::new(Topic::Released, judged.envelope.user.0.clone(), id, value)
}

fn judged(to: &[&str], message: &str, now: Timestamp) -> Judged {
    let id = MessageId::new(now);
    let domain = Domain::parse("customer.example").expect("a domain");
    let user = UserId("customer.example".into());
    let reverse_path = ReversePath::Mailbox(Mailbox::parse("sender@customer.example").expect("a mailbox"));
    let recipient = |to: &&str| Recipient {
        forward_path: Mailbox::parse(to).expect("a mailbox"),
        notify: None,
        orcpt: None,
    };
    let envelope = Envelope {
        id,
        accepted_at: now,
        node: NODE.into(),
        reply_partition: None,
        user: user.clone(),
        domain: domain.clone(),
        client: Client {
            address: "192.0.2.7:4711".parse().expect("an address"),
            helo: "shop.customer.example".into(),
            protocol: "ESMTPA".into(),
            login: Some("secret-login".into()),
            tls: None,
        },
        reverse_path: reverse_path.clone(),
        recipients: to.iter().map(recipient).collect(),
        ret: None,
        envid: None,
        body_type: if message.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        smtputf8: false,
        size_bytes: message.len() as u64,
        chunks: Vec::new(),
        origin: None,
    };
    let summary = MessageSummary {
        id,
        accepted_at: now,
        user,
        domain: domain.clone(),
        identity: Identity("shop".into()),
        reverse_path,
        header_from: Some(domain),
        classification: Classification::Clean,
        observed_as: None,
        size_bytes: message.len() as u64,
        header_message_id: Some("m1@customer.example".into()),
        client_queue_id: None,
        subject: None,
        own: false,
        forwarded: false,
    };
    Judged {
        envelope,
        message: summary,
        score: 0.0,
        symbols: Vec::new(),
        remove_fields: Vec::new(),
        released_by: None,
        kept: false,
    }
}
