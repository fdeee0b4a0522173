//! A scorer on a log of its own, and what the tests ask of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Clock, Log, ManualClock, NewRecord, Record, TableEvent, Tail, TailFrom};
use prometheus_client::registry::Registry;
use schemas::commands::{Action, Command};
use schemas::envelope::{BodyType, Client, Recipient};
use schemas::quarantine::QuarantineRow;
use schemas::reply::Reply;
use schemas::senders::{HoldRow, SenderRow};
use schemas::settings::{AutomaticLock, Limits, Setting, UserSettings};
use schemas::verdict::{Classification, Identity, Judged, Verdict, VerdictEvent};
use schemas::{Domain, Envelope, Mailbox, MessageId, Position, ReversePath, Timestamp, Topic, UserId, spool};
use scorer::{Config, Metrics};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const START: Timestamp = Timestamp(1_795_512_600_000);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// The partition of `replies` that the envelopes name.
const REPLY_PARTITION: u32 = 1;
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");

pub struct Site {
    pub log: Log,
    embedded: Arc<EmbeddedLog>,
    pub clock: ManualClock,
    /// What sessions were told.
    replies: Arc<Mutex<HashMap<MessageId, String>>>,
    _directory: tempfile::TempDir,
}

pub struct Scorer {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), scorer::Error>>,
    registry: Registry,
}

impl Scorer {
    /// The value of a counter, as Prometheus is told it.
    pub fn counted(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("mailweir_scorer_{name}_total ")));
        line.expect("the counter").parse().expect("a number")
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap().unwrap();
    }

    /// As `kill -9` leaves it: whatever was under way is not finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Site {
    pub async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::starting_at(START);
        let mut config = EmbeddedConfig::new(directory.path());
        config.min_free_bytes = 0;
        let embedded = EmbeddedLog::open(config, Arc::new(clock.clone())).unwrap();
        let log: Log = Arc::clone(&embedded) as Log;
        let replies = Arc::default();
        let tail = log.tail(Topic::Replies, REPLY_PARTITION, TailFrom::End).await.unwrap();
        tokio::spawn(listen(tail, Arc::clone(&replies)));
        Site { log, embedded, clock, replies, _directory: directory }
    }

    /// Nobody is locked by itself, however much is blocked.
    pub async fn without_automatic_locks(&self) {
        let off = AutomaticLock { identity: Some(false), user: Some(false), ..AutomaticLock::default() };
        self.defaults(UserSettings { automatic_lock: Some(off), ..UserSettings::default() }).await;
    }

    pub async fn limit(&self, limits: Limits) {
        self.defaults(UserSettings { limits: Some(limits), ..UserSettings::default() }).await;
    }

    /// What was released, in the order of its partition.
    pub async fn released(&self) -> Vec<MessageId> {
        let id = |record: &Record| Some(judged(record)?.0.envelope.id);
        self.all(Topic::Released).await.iter().filter_map(id).collect()
    }

    pub async fn until_released(&self, count: usize) {
        let all = async { while self.released().await.len() < count {} };
        tokio::time::timeout(PATIENCE, all).await.expect("they are released");
    }

    /// Waits until so many holds are as wanted.
    pub async fn until_holds(&self, count: usize, wanted: impl Fn(&HoldRow) -> bool) {
        let all = async {
            loop {
                let holds = self.rows(Topic::Senders).await;
                let holds = holds.values().filter_map(|value| serde_json::from_slice::<HoldRow>(value).ok());
                if holds.filter(|row| wanted(row)).count() == count {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("holds");
    }

    pub async fn enforce_retention(&self) {
        self.embedded.enforce_retention().await.unwrap();
    }

    async fn defaults(&self, settings: UserSettings) {
        let setting = Setting::Defaults { settings };
        let value = serde_json::to_vec(&setting).unwrap();
        self.log
            .append(vec![NewRecord::new(Topic::Settings, setting.key(), setting.key(), value)])
            .await
            .unwrap();
    }

    pub fn start(&self, slots: usize) -> Scorer {
        self.start_on(Arc::clone(&self.log), slots)
    }

    pub fn start_on(&self, log: Log, slots: usize) -> Scorer {
        let shutdown = CancellationToken::new();
        let settings = eventlog::view::settings(Arc::clone(&log), shutdown.clone());
        let classifier = Arc::new(scorer::Classifier::shipped().unwrap());
        let config = Config { slots, batch: 16, ..Config::new("node1", classifier) };
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let task = tokio::spawn(scorer::run(config, log, clock, settings, metrics, shutdown.clone()));
        Scorer { shutdown, task, registry }
    }

    pub fn envelope(&self, user: &str, number: usize) -> Envelope {
        Envelope {
            id: MessageId::derived(&format!("{user} {number}"), self.clock.now()),
            accepted_at: self.clock.now(),
            node: "node1".into(),
            reply_partition: Some(REPLY_PARTITION),
            user: UserId(user.into()),
            domain: Domain::parse("shop.example").unwrap(),
            client: Client {
                address: "192.0.2.1:25".parse().unwrap(),
                helo: "mail.shop.example".into(),
                protocol: "ESMTPSA".into(),
                login: Some(user.into()),
                tls: None,
            },
            reverse_path: ReversePath::Mailbox(Mailbox::parse("a@shop.example").unwrap()),
            recipients: vec![Recipient {
                forward_path: Mailbox::parse("r@elsewhere.example").unwrap(),
                notify: None,
                orcpt: None,
            }],
            ret: None,
            envid: None,
            body_type: BodyType::SevenBit,
            smtputf8: false,
            size_bytes: 0,
            chunks: Vec::new(),
            origin: None,
        }
    }

    /// Settings for every user, as they stand in `settings.toml` but as JSON; to be called before the scorer starts.
    pub async fn set_defaults(&self, settings: &str) {
        let settings = serde_json::from_str(settings).unwrap();
        let value = serde_json::to_vec(&schemas::settings::Setting::Defaults { settings }).unwrap();
        self.log
            .append(vec![NewRecord::new(Topic::Settings, "defaults/", "defaults/", value)])
            .await
            .unwrap();
    }

    /// Sends messages, numbered from `from`, until one is judged by a version of the model.
    pub async fn until_version(
        &self,
        verdict: &impl AsyncFn(usize) -> (Envelope, Verdict),
        from: usize,
        version: &str,
    ) {
        for number in from..from + 90 {
            if verdict(number).await.1.model_version.as_deref() == Some(version) {
                return;
            }
        }
        panic!("no message is judged by {version}");
    }

    pub async fn accept(&self, envelope: &Envelope, body: &str) {
        let value = spool::encode(envelope, message(body).as_bytes()).unwrap();
        self.append(Topic::Accepted, &envelope.user, value).await;
    }

    pub async fn append(&self, topic: Topic, user: &UserId, value: Bytes) -> Position {
        let record = NewRecord::new(topic, user.0.clone(), "key", value);
        self.log.append(vec![record]).await.unwrap()[0]
    }

    pub async fn command(&self, id: &str, action: Action) {
        let partition_key = action.partition_key();
        let command = Command {
            id: id.into(),
            by: "root (test)".into(),
            at: self.clock.now(),
            reply_partition: Some(2),
            action,
        };
        let value = serde_json::to_vec(&command).unwrap();
        self.log
            .append(vec![NewRecord::new(Topic::Commands, partition_key, id.to_owned(), value)])
            .await
            .unwrap();
    }

    /// The answer to a command.
    pub async fn answer(&self, id: &str) -> (bool, u64, String) {
        let wanted = id.to_owned();
        self.find(Topic::Replies, move |record| {
            match serde_json::from_slice(record.value.as_ref()?).ok()? {
                Reply::Command { command_id, ok, affected, text } if command_id == wanted => {
                    Some((ok, affected, text))
                }
                _ => None,
            }
        })
        .await
    }

    /// What a session is told about a message.
    pub async fn reply(&self, id: MessageId) -> String {
        let told = async {
            loop {
                if let Some(reply) = self.replies.lock().unwrap().get(&id) {
                    return reply.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("a reply")
    }

    /// The first record of a topic, in any partition, that `pick` takes; waits for it.
    pub async fn find<T>(&self, topic: Topic, pick: impl Fn(&Record) -> Option<T>) -> T {
        let search = async {
            let mut tails = Vec::new();
            for partition in 0..self.log.partitions(topic) {
                tails.push(self.log.tail(topic, partition, TailFrom::Offset(0)).await.unwrap());
            }
            loop {
                for tail in &mut tails {
                    let next = tokio::time::timeout(Duration::from_millis(5), tail.next(1000)).await;
                    let Ok(records) = next else { continue };
                    if let Some(found) = records.unwrap().iter().find_map(&pick) {
                        return found;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("not found in {topic}"))
    }

    /// Everything in a topic once `group` has nothing left to do.
    pub async fn all(&self, topic: Topic) -> Vec<Record> {
        let mut records = Vec::new();
        for partition in 0..self.log.partitions(topic) {
            let mut tail = self.log.tail(topic, partition, TailFrom::Offset(0)).await.unwrap();
            while let Ok(next) = tokio::time::timeout(Duration::from_millis(30), tail.next(1000)).await {
                records.extend(next.unwrap());
            }
        }
        records
    }

    /// Waits until every accepted message, command and attempt is done.
    pub async fn settled(&self) {
        self.lag_below(1).await;
    }

    pub async fn lag_below(&self, limit: u64) {
        let wait = async {
            loop {
                let accepted = self.log.lag("scorer", Topic::Accepted).await.unwrap();
                let commands = self.log.lag("scorer", Topic::Commands).await.unwrap();
                let attempts = self.log.lag("scorer", Topic::Attempts).await.unwrap();
                if accepted + commands + attempts < limit {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the scorer keeps up");
    }

    pub async fn rows(&self, topic: Topic) -> std::collections::BTreeMap<Bytes, Bytes> {
        let mut rows = std::collections::BTreeMap::new();
        let mut table = self.log.table(topic, None).await.unwrap();
        loop {
            for event in table.next(1000).await.unwrap() {
                match event {
                    TableEvent::CaughtUp => return rows,
                    TableEvent::Row(Record { key, value: Some(value), .. }) => {
                        rows.insert(key, value);
                    }
                    TableEvent::Row(record) => {
                        rows.remove(&record.key);
                    }
                }
            }
        }
    }

    pub async fn quarantine_row(&self, envelope: &Envelope) -> Option<QuarantineRow> {
        let key = schemas::quarantine::key(&envelope.user, envelope.id);
        self.rows(Topic::Quarantine).await.get(&key).map(|value| serde_json::from_slice(value).unwrap())
    }

    /// The row once it names a place in `quarantined`.
    pub async fn placed_row(&self, envelope: &Envelope) -> QuarantineRow {
        let id = envelope.id;
        self.find(Topic::Quarantine, move |record| {
            let row: QuarantineRow = serde_json::from_slice(record.value.as_ref()?).ok()?;
            (row.message.id == id && row.position.topic == Topic::Quarantined).then_some(row)
        })
        .await
    }

    pub async fn sender_row(&self, user: &str, identity: Option<&str>) -> Option<SenderRow> {
        let identity = identity.map(|name| Identity(name.into()));
        let key = schemas::senders::key(&UserId(user.into()), identity.as_ref());
        self.rows(Topic::Senders).await.get(&key).map(|value| serde_json::from_slice(value).unwrap())
    }
}

pub fn message(body: &str) -> String {
    format!(
        "From: a@shop.example\r\nTo: c@d.example\r\nMessage-ID: <2@b.example>\r\nIn-Reply-To: <1@d.example>\r\nReferences: <1@d.example>\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\nSubject: Re: minutes of the meeting\r\n\r\n{body}\r\n"
    )
}

pub fn judged(record: &Record) -> Option<(Judged, Bytes)> {
    spool::decode(record.value.as_ref()?).ok()
}

pub fn classification(record: &Record, id: MessageId) -> Option<Classification> {
    match serde_json::from_slice(record.value.as_ref()?).ok()? {
        VerdictEvent::Judged(verdict) if verdict.message.id == id => Some(verdict.message.classification),
        _ => None,
    }
}

/// What a session was told, and about which message.
pub fn told(record: &Record) -> Option<(MessageId, String)> {
    match serde_json::from_slice(record.value.as_ref()?).ok()? {
        Reply::Session { message_id, reply } => Some((message_id, reply.to_string())),
        _ => None,
    }
}

/// As ingress does: what is announced is heard by those who listen, and by nobody later.
async fn listen(mut tail: Box<dyn Tail>, replies: Arc<Mutex<HashMap<MessageId, String>>>) {
    while let Ok(records) = tail.next(1000).await {
        replies.lock().unwrap().extend(records.iter().filter_map(told));
    }
}

pub fn verdict_of(record: &Record, id: MessageId) -> Option<Verdict> {
    match serde_json::from_slice(record.value.as_ref()?).ok()? {
        VerdictEvent::Judged(verdict) if verdict.message.id == id => Some(verdict),
        _ => None,
    }
}
