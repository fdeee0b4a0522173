//! An ingress that runs, its log, and a scorer that says what a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Argon2, Params};
use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Log, NewRecord, Polled, SystemClock, bodies};
use ingress::{Config, Gate, Ingress, Limits, ListenerConfig, ListenerTls};
use prometheus_client::registry::Registry;
use schemas::reply::Reply;
use schemas::settings::{OutgoingUser, Setting, UserAuth, UserSettings};
use schemas::topics::TopicPartition;
use schemas::{Domain, EnhancedCode, Envelope, SmtpReply, Topic, spool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Password of every login.
pub const PASSWORD: &str = "correct horse";
/// A message with this word is refused by the scorer.
pub const SPAM: &str = "buy-now";
/// A message with this word gets no verdict in time.
pub const SILENCE: &str = "no-verdict";

pub struct Node {
    pub log: Log,
    pub smtp: SocketAddr,
    pub gate: Gate,
    pub registry: Registry,
    pub directory: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    ingress: JoinHandle<Result<(), ingress::Error>>,
    scorer: Option<JoinHandle<()>>,
}

/// What differs from the usual.
pub struct Setup {
    pub listener: ListenerConfig,
    pub tls: Option<ingress::TlsFiles>,
    pub limits: Limits,
    pub max_lag: u64,
    pub scorer: bool,
    /// Whether the views come from this log, or from one that never tells them anything.
    pub views_catch_up: bool,
    pub settings: Vec<Setting>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            listener: ListenerConfig {
                bind: SocketAddr::from(([127, 0, 0, 1], 0)),
                tls: ListenerTls::None,
                proxy_protocol_from: Vec::new(),
                auth_without_tls: true,
                optional: false,
            },
            tls: None,
            limits: Limits::default(),
            max_lag: 1000,
            scorer: true,
            views_catch_up: true,
            settings: users(),
        }
    }
}

/// The three kinds: 127.0.0.1, the domain, a mailbox of it. 127.0.0.2 and above are nobody.
pub fn users() -> Vec<Setting> {
    let user = |auth| {
        let domain = Domain::parse("customer.example").expect("a domain");
        Setting::OutgoingUser(OutgoingUser { domain, auth, settings: UserSettings::default() })
    };
    let login = |login: &str| user(UserAuth::Password { login: login.into(), password_hash: hash() });
    vec![
        user(UserAuth::Ip { range: "127.0.0.1/32".parse().expect("a range") }),
        login("customer.example"),
        login("shop@customer.example"),
    ]
}

/// Weak on purpose: these tests are not about the strength of argon2id.
fn hash() -> String {
    let params = Params::new(64, 1, 1, None).expect("parameters");
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::from_b64("c29tZXNhbHRzb21lc2FsdA").expect("a salt");
    argon2.hash_password(PASSWORD.as_bytes(), &salt).expect("a hash").to_string()
}

pub fn open_log(directory: &std::path::Path) -> Log {
    let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory) };
    EmbeddedLog::open(config, Arc::new(SystemClock)).expect("the log opens")
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let log = open_log(directory.path());
        for setting in &setup.settings {
            let value = serde_json::to_vec(setting).expect("JSON");
            let record = NewRecord::new(Topic::Settings, setting.key(), setting.key(), value);
            log.append(vec![record]).await.expect("a setting is written");
        }
        let stop = CancellationToken::new();
        let views_log = if setup.views_catch_up { Arc::clone(&log) } else { closed_log().await };
        let settings = eventlog::view::settings(Arc::clone(&views_log), stop.clone());
        let senders = eventlog::view::senders(views_log, stop.clone());
        if setup.views_catch_up {
            settings.caught_up().await;
            senders.caught_up().await;
        }
        let config = Config {
            node: "node1".into(),
            hostname: "smtp.hoster.example".into(),
            listeners: vec![setup.listener],
            tls: setup.tls,
            verdict_timeout: Duration::from_millis(700),
            limits: setup.limits,
        };
        let mut registry = Registry::default();
        let ingress = Ingress::bind(config, &mut registry).await.expect("it binds");
        let smtp = ingress.addresses()[0];
        let scorer = setup.scorer.then(|| tokio::spawn(judge(Arc::clone(&log), stop.clone())));
        let clock = Arc::new(SystemClock);
        let gate = Gate::new(Arc::clone(&log), settings, senders, setup.max_lag);
        let ingress = tokio::spawn(ingress.run(gate.clone(), clock, stop.clone()));
        Node { log, smtp, gate, registry, directory, stop, ingress, scorer }
    }

    /// Begins a graceful stop.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops ingress and waits for its end; the log stays open.
    pub async fn stopped(self) -> Log {
        self.stop.cancel();
        self.ingress.await.expect("no panic").expect("no error");
        if let Some(scorer) = self.scorer {
            scorer.await.expect("no panic");
        }
        self.log
    }

    /// The only message that was accepted, with its envelope.
    pub async fn accepted(&self) -> (Envelope, Bytes) {
        let mut all = accepted(&self.log).await;
        assert_eq!(all.len(), 1, "one message");
        all.remove(0)
    }
}

async fn closed_log() -> Log {
    let directory = tempfile::tempdir().expect("a directory");
    let log = open_log(directory.path());
    log.close().await;
    log
}

/// Every record of `accepted`, with its message put together.
pub async fn accepted(log: &Log) -> Vec<(Envelope, Bytes)> {
    let mut found = Vec::new();
    for record in records(log, Topic::Accepted).await {
        let (envelope, inline): (Envelope, Bytes) = spool::decode(&record).expect("a spool record");
        let message = bodies::load(log.as_ref(), &envelope, inline).await.expect("the message");
        found.push((envelope, message));
    }
    found
}

/// The values of all that stands in a topic now.
pub async fn records(log: &Log, topic: Topic) -> Vec<Bytes> {
    let group = format!("reader-{}", schemas::MessageId::new(schemas::Timestamp(0)));
    let mut reader = log.join(&group, "slot", &[topic]).await.expect("it joins");
    let mut found = Vec::new();
    loop {
        match reader.poll(100, Duration::from_millis(300)).await.expect("it polls") {
            Polled::Records(records) => found.extend(records.into_iter().filter_map(|r| r.value)),
            Polled::Nothing => return found,
            Polled::Assigned(_) | Polled::Revoked(_) => {}
        }
    }
}

async fn judge(log: Log, stop: CancellationToken) {
    let mut consumer = log.join("scorer", "scorer-1", &[Topic::Accepted]).await.expect("it joins");
    while !stop.is_cancelled() {
        let Ok(polled) = consumer.poll(100, Duration::from_millis(20)).await else { return };
        let Polled::Records(records) = polled else { continue };
        let (mut replies, mut next) = (Vec::new(), Vec::new());
        for record in records {
            let position = record.position;
            next.retain(|(at, _)| *at != position.topic_partition());
            next.push((position.topic_partition(), position.offset + 1));
            replies.extend(verdict(&record.value.expect("a message")));
        }
        let next: Vec<(TopicPartition, u64)> = next;
        if consumer.commit(replies, &next).await.is_err() {
            return;
        }
    }
    consumer.leave().await;
}

fn verdict(record: &Bytes) -> Option<NewRecord> {
    let (envelope, message): (Envelope, Bytes) = spool::decode(record).expect("a spool record");
    let text = String::from_utf8_lossy(&message);
    if text.contains(SILENCE) {
        return None;
    }
    let reply = if text.contains(SPAM) {
        SmtpReply::new(550, EnhancedCode(5, 7, 1), format!("Blocked as spam, ref {}", envelope.id))
    } else {
        SmtpReply::new(250, EnhancedCode(2, 0, 0), format!("queued as {}", envelope.id))
    };
    let value = serde_json::to_vec(&Reply::Session { message_id: envelope.id, reply }).expect("JSON");
    let record = NewRecord::new(Topic::Replies, "", envelope.id.to_string(), value);
    Some(record.in_partition(envelope.reply_partition?))
}
