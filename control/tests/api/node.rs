//! A control over an embedded log of its own, asked through its router.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use control::{Config, Context};
use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{Clock, Log, ManualClock, NewRecord};
use schemas::sealed::ClusterKey;
use schemas::verdict::{Classification, Identity, Judged, MessageSummary};
use schemas::{Domain, Mailbox, MessageId, Timestamp, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub const NOW: Timestamp = Timestamp(1_795_512_600_000);
pub const ACTOR: &str = "root@test (cli)";

pub struct Node {
    pub context: Context,
    pub log: Log,
    pub clock: ManualClock,
    pub cluster_key: ClusterKey,
    pub dir: TempDir,
    /// Why no mail is taken in.
    pub obstacle: Arc<Mutex<Option<String>>>,
    shutdown: CancellationToken,
}

impl Node {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::starting_at(NOW);
        let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(dir.path().join("log")) };
        let embedded = EmbeddedLog::open(config, Arc::new(clock.clone())).unwrap();
        let log: Log = embedded.clone();
        let shutdown = CancellationToken::new();
        let cluster_key = control::cluster_key::load_or_create(&dir.path().join("cluster.key")).unwrap();
        let backup: control::BackupHook = Arc::new(move |into| {
            let log = Arc::clone(&embedded);
            Box::pin(async move { log.backup(&into).await })
        });
        let obstacle: Arc<Mutex<Option<String>>> = Arc::default();
        let told = Arc::clone(&obstacle);
        let mut config = Config::new("node1");
        config.command_timeout = Duration::from_secs(1);
        let context = control::start(
            config,
            Arc::clone(&log),
            Arc::new(clock.clone()),
            eventlog::view::settings(Arc::clone(&log), shutdown.clone()),
            eventlog::view::senders(Arc::clone(&log), shutdown.clone()),
            cluster_key.clone(),
            Some(backup),
            Arc::new(move || told.lock().unwrap().clone()),
            shutdown.clone(),
        )
        .await;
        Node { context, log, clock, cluster_key, dir, obstacle, shutdown }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub async fn get_refused(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        let (status, body) = self.post_raw(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// A refusal: its status, error and fix.
    pub async fn post_refused(&self, path: &str, body: &impl Serialize) -> (StatusCode, String, String) {
        let (status, body) = self.post_raw(path, body).await;
        let refusal: control::api::Refusal = serde_json::from_slice(&body).unwrap();
        assert!(!refusal.fix.is_empty(), "{refusal:?}");
        (status, refusal.error, refusal.fix)
    }

    async fn post_raw(&self, path: &str, body: &impl Serialize) -> (StatusCode, Bytes) {
        let body = serde_json::to_vec(body).unwrap();
        let request = Request::post(path).header(control::api::ACTOR_HEADER, ACTOR).body(Body::from(body));
        self.send(request.unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let response = control::router(self.context.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap())
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn append(&self, records: Vec<NewRecord>) -> Vec<schemas::Position> {
        self.log.append(records).await.unwrap()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.log.close().await;
    }
}

pub fn summary(id: MessageId, user: &str, identity: &str) -> MessageSummary {
    MessageSummary {
        id,
        accepted_at: NOW,
        user: UserId(user.into()),
        domain: Domain::parse("customer.example").unwrap(),
        identity: Identity(identity.into()),
        reverse_path: schemas::ReversePath::Mailbox(Mailbox::parse("shop@customer.example").unwrap()),
        header_from: None,
        classification: Classification::Spam,
        observed_as: None,
        size_bytes: 20,
        header_message_id: None,
        client_queue_id: None,
        subject: Some("Hello".into()),
        own: false,
        forwarded: false,
    }
}

// From JSON, since fields with defaults may be added to it.
pub fn judged(message: &MessageSummary, recipients: &[&str]) -> Judged {
    let recipients: Vec<Value> =
        recipients.iter().map(|r| serde_json::json!({ "forward_path": r })).collect();
    let envelope = serde_json::json!({
        "id": message.id, "accepted_at": NOW, "node": "node1", "user": message.user, "domain": message.domain,
        "client": { "address": "192.0.2.1:40000", "helo": "client.example", "protocol": "ESMTP" },
        "reverse_path": message.reverse_path, "recipients": recipients, "size_bytes": message.size_bytes,
    });
    let symbols = serde_json::json!([{ "name": "BAYES", "weight": 0.9, "evidence": "e".repeat(300) }]);
    let judged =
        serde_json::json!({ "envelope": envelope, "message": message, "score": 0.9, "symbols": symbols });
    serde_json::from_value(judged).unwrap()
}
