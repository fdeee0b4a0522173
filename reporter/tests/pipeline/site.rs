//! A reporter on a log of its own, and what the tests ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Clock, Log, ManualClock, NewRecord, TailFrom, bodies};
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;
use reporter::store::clickhouse::Target;
use reporter::store::query::StatsLine;
use reporter::{Config, Metrics, StatsStore};
use schemas::attempt::AttemptEvent;
use schemas::envelope::{BodyType, Client, Recipient};
use schemas::settings::{DomainSettings, Setting, UserSettings};
use schemas::verdict::{Judged, MessageSummary, VerdictEvent};
use schemas::{Domain, Envelope, Position, Topic, spool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::events::{START, mailbox};

pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// The server has a clock of its own, which no test turns: its rows must not be old by that one.
pub const KEEP_ON_CLICKHOUSE: Duration = Duration::from_secs(15 * 365 * 24 * 3600);
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Site {
    pub log: Log,
    pub clock: ManualClock,
    pub directory: tempfile::TempDir,
}

pub struct Reporter {
    pub store: Arc<dyn StatsStore>,
    pub metrics: Metrics,
    router: Router,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), reporter::Error>>,
}

impl Reporter {
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it stops").unwrap().unwrap();
    }

    /// As `kill -9` leaves it: whatever was under way is not finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn get(&self, path: &str) -> (StatusCode, serde_json::Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub async fn post(&self, path: &str, body: serde_json::Value) -> (StatusCode, serde_json::Value) {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The sums over everything.
    pub async fn sums(&self) -> StatsLine {
        let (status, lines) = self.get("/v1/stats").await;
        if status != StatusCode::OK {
            return StatsLine::default();
        }
        let lines: Vec<StatsLine> = serde_json::from_value(lines).unwrap();
        lines.into_iter().next().unwrap_or_default()
    }

    pub async fn until_sums(&self, wanted: impl Fn(&StatsLine) -> bool) -> StatsLine {
        let wait = async {
            loop {
                let sums = self.sums().await;
                if wanted(&sums) {
                    return sums;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(sums) => sums,
            Err(_) => panic!("the sums stay {:?}", self.sums().await),
        }
    }
}

impl Site {
    pub fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::starting_at(START);
        let mut config = EmbeddedConfig::new(directory.path().join("log"));
        config.min_free_bytes = 0;
        let log: Log = EmbeddedLog::open(config, Arc::new(clock.clone())).unwrap();
        Site { log, clock, directory }
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("statistics.sqlite")
    }

    pub fn start(&self) -> Reporter {
        self.start_on(Arc::clone(&self.log), self.database())
    }

    pub fn start_on(&self, log: Log, database: PathBuf) -> Reporter {
        self.start_with(log, database, None)
    }

    pub fn start_on_clickhouse(&self, log: Log, target: &Target) -> Reporter {
        self.start_with(log, self.database(), Some(target.clone()))
    }

    fn start_with(&self, log: Log, database: PathBuf, clickhouse: Option<Target>) -> Reporter {
        let shutdown = CancellationToken::new();
        let settings = eventlog::view::settings(Arc::clone(&log), shutdown.clone());
        let config = Config {
            node: "node1".into(),
            hostname: "smtp.hoster.example".into(),
            database,
            default_abuse_address: Some(mailbox("default@hoster.example")),
            report_from: mailbox("postmaster@smtp.hoster.example"),
            unlock_links: None,
            keep: if clickhouse.is_some() { KEEP_ON_CLICKHOUSE } else { 90 * DAY },
            clickhouse,
        };
        let metrics = Metrics::new(&mut Registry::default());
        let store = reporter::open_store(&config).unwrap();
        let router = reporter::router(Arc::clone(&store), Arc::clone(&log));
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let run = reporter::run(
            config,
            Arc::clone(&store),
            log,
            clock,
            settings,
            metrics.clone(),
            shutdown.clone(),
        );
        Reporter { store, metrics, router, shutdown, task: tokio::spawn(run) }
    }

    pub async fn append(&self, topic: Topic, message: &MessageSummary, value: Bytes) -> Position {
        let record = NewRecord::new(topic, message.user.0.clone(), message.id.to_string(), value);
        self.log.append(vec![record]).await.unwrap()[0]
    }

    pub async fn verdict(&self, event: &VerdictEvent) {
        let (VerdictEvent::Released { message, .. } | VerdictEvent::Closed { message, .. }) = event else {
            let VerdictEvent::Judged(verdict) = event else { panic!("about no message") };
            self.append(Topic::Verdicts, &verdict.message, serde_json::to_vec(event).unwrap().into()).await;
            return;
        };
        self.append(Topic::Verdicts, message, serde_json::to_vec(event).unwrap().into()).await;
    }

    pub async fn attempt(&self, event: &AttemptEvent) {
        let AttemptEvent::Attempt(attempt) = event else { panic!("no attempt") };
        self.append(Topic::Attempts, &attempt.message, serde_json::to_vec(event).unwrap().into()).await;
    }

    /// The message into `accepted`, and where it stands into the verdict.
    pub async fn accept(&self, event: &mut VerdictEvent, bytes: &[u8]) {
        let VerdictEvent::Judged(verdict) = event else { panic!("no verdict") };
        let mut envelope = envelope(&verdict.message, &verdict.client, bytes.len());
        let is_large = bytes.len() > schemas::topics::INLINE_BODY_BYTES;
        if is_large {
            for (index, chunk) in bytes.chunks(512 * 1024).enumerate() {
                let chunk = bodies::chunk(envelope.id, index, Bytes::copy_from_slice(chunk));
                envelope.chunks.extend(self.log.append(vec![chunk]).await.unwrap());
            }
        }
        let value = spool::encode(&envelope, if is_large { b"" } else { bytes }).unwrap();
        verdict.accepted = self.append(Topic::Accepted, &verdict.message, value).await;
    }

    pub async fn abuse_address(&self, domain: &str, address: &str) {
        let setting = Setting::Domain(DomainSettings {
            name: Domain::parse(domain).unwrap(),
            abuse_address: Some(mailbox(address)),
            settings: UserSettings::default(),
        });
        let value = serde_json::to_vec(&setting).unwrap();
        let record = NewRecord::new(Topic::Settings, Bytes::new(), setting.key(), value);
        self.log.append(vec![record]).await.unwrap();
    }

    /// Everything in `released` once all verdicts are done.
    pub async fn reports(&self) -> Vec<(Judged, Bytes)> {
        self.until_done("feedback", Topic::Verdicts).await;
        let mut reports = Vec::new();
        for partition in 0..self.log.partitions(Topic::Released) {
            let mut tail = self.log.tail(Topic::Released, partition, TailFrom::Offset(0)).await.unwrap();
            while let Ok(next) = tokio::time::timeout(Duration::from_millis(50), tail.next(1000)).await {
                let decoded = |record: eventlog::Record| spool::decode(&record.value.unwrap()).unwrap();
                reports.extend(next.unwrap().into_iter().map(decoded));
            }
        }
        reports
    }

    pub async fn until_done(&self, group: &str, topic: Topic) {
        let wait = async {
            while self.log.lag(group, topic).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{group} does not keep up"));
    }
}

fn envelope(message: &MessageSummary, client: &Client, size: usize) -> Envelope {
    Envelope {
        id: message.id,
        accepted_at: message.accepted_at,
        node: "node1".into(),
        reply_partition: None,
        user: message.user.clone(),
        domain: message.domain.clone(),
        client: client.clone(),
        reverse_path: message.reverse_path.clone(),
        recipients: vec![Recipient { forward_path: mailbox("a@one.example"), notify: None, orcpt: None }],
        ret: None,
        envid: None,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        size_bytes: size as u64,
        chunks: Vec::new(),
        origin: None,
    }
}
