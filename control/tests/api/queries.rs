use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use control::api::{
    BackupAnswer, CommandOutcome, DirectoryRequest, ExportAnswer, IdentitiesAnswer, QuarantineAnswer,
    QuarantineDetails, QueueAnswer, StatusAnswer,
};
use eventlog::NewRecord;
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::queue::QueueEntry;
use schemas::senders::{Lock, SenderRow};
use schemas::verdict::Identity;
use schemas::{Domain, EnhancedCode, MessageId, Position, SmtpReply, Topic, UserId, spool};
use serde_json::{Value, json};

use super::node::{NOW, Node, judged, summary};

const CONTENT: &[u8] = b"Subject: x\r\n\r\n\xff\r\n";

/// A message in `topic`, and where it stands.
async fn store(node: &Node, topic: Topic, id: MessageId, recipients: &[&str]) -> Position {
    let value =
        spool::encode(&judged(&summary(id, "shop@customer.example", "bob"), recipients), CONTENT).unwrap();
    node.append(vec![NewRecord::new(topic, "shop@customer.example", id.to_string(), value)]).await[0]
}

async fn enqueue(node: &Node, site: &str, reply: Option<SmtpReply>, minutes: u64) -> QueueEntry {
    let id = MessageId::new(node.now());
    let position = store(node, Topic::Released, id, &["a@b.example"]).await;
    // From JSON, since fields with defaults may be added to it.
    let entry = json!({
        "message": summary(id, "shop@customer.example", "bob"), "node": "node1", "site": site, "tries": 1,
        "recipients": [{ "index": 0, "forward_path": "a@b.example", "last_reply": reply }], "queued_at": NOW,
        "next_attempt": NOW.plus(Duration::from_secs(60 * minutes)),
        "expires_at": NOW.plus(Duration::from_secs(86_400)), "position": position,
    });
    let entry: QueueEntry = serde_json::from_value(entry).unwrap();
    let key = schemas::queue::key(id, site);
    let value = serde_json::to_vec(&entry).unwrap();
    node.append(vec![NewRecord::new(Topic::Queue, schemas::queue::lane_key("node1"), key, value)]).await;
    node.context.queue.wait_until(|view| view.entries().any(|e| e.message.id == id)).await;
    entry
}

fn greylisted(text: &str) -> Option<SmtpReply> {
    Some(SmtpReply::new(451, EnhancedCode(4, 7, 1), text))
}

#[tokio::test]
async fn the_queue_is_listed_by_next_attempt_and_summed_up_by_reason() {
    let node = Node::start().await;
    let late = enqueue(&node, "b.example", greylisted("Greylisted, id 7"), 60).await;
    let soon = enqueue(&node, "b.example", greylisted("Greylisted, id 8"), 5).await;
    enqueue(&node, "c.example", None, 30).await;
    let all: QueueAnswer = node.get("/v1/queue?limit=2").await;
    assert_eq!((all.total, all.recipients, all.entries.len()), (3, 3, 2));
    assert_eq!(all.entries[0], soon);
    assert_eq!(
        (all.totals[0].site.as_str(), all.totals[0].code, all.totals[0].recipients),
        ("b.example", Some(451), 2)
    );
    assert_eq!(all.totals[1].example, "not tried yet");
    let page: QueueAnswer = node.get("/v1/queue?site=b.example&offset=1").await;
    assert_eq!((page.total, &page.entries[..]), (2, &[late][..]));
    let none: QueueAnswer = node.get("/v1/queue?held=true").await;
    assert_eq!(none.total, 0);
    let (status, body) = node.get_refused("/v1/queue?sitte=b.example").await;
    assert_eq!((status, body["fix"].as_str().unwrap()), (StatusCode::BAD_REQUEST, "did you mean `site`?"));
    assert_eq!(node.get_refused("/v1/queue?message_id=abc").await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn removing_from_the_queue_needs_a_count_and_no_misspelt_condition_selects_all() {
    let node = Node::start().await;
    enqueue(&node, "b.example", None, 5).await;
    enqueue(&node, "c.example", None, 5).await;
    let (status, _, fix) = node
        .post_refused("/v1/queue/remove", &json!({"select": {"sitte": "b.example"}, "expected": 1}))
        .await;
    assert_eq!((status, fix.as_str()), (StatusCode::BAD_REQUEST, "did you mean `site`?"));
    let (status, _, fix) =
        node.post_refused("/v1/queue/remove", &json!({"select": {"site": "b.example"}})).await;
    assert_eq!((status, fix.contains("expected = 1")), (StatusCode::BAD_REQUEST, true));
    let dry: CommandOutcome =
        node.post("/v1/queue/remove", &json!({"select": {"site": "b.example"}, "dry_run": true})).await;
    assert_eq!((dry.dry_run, dry.matched), (true, 1));
    let request = json!({"select": {"message_id": MessageId::new(NOW)}});
    assert_eq!(node.post_refused("/v1/queue/retry", &request).await.0, StatusCode::NOT_FOUND);
    let request = json!({"select": {}, "route": "nowhere:port"});
    assert_eq!(node.post_refused("/v1/queue/reroute", &request).await.0, StatusCode::BAD_REQUEST);
    // Nobody owns the lane here: given, and pending.
    let given: CommandOutcome = node.post("/v1/queue/hold", &json!({"select": {"site": "b.example"}})).await;
    assert_eq!((given.matched, given.affected, given.pending), (1, 0, 1));
    let nothing: CommandOutcome =
        node.post("/v1/queue/hold", &json!({"select": {"site": "z.example"}})).await;
    assert_eq!((nothing.matched, nothing.pending), (0, 0));
    node.stop().await;
}

#[tokio::test]
async fn an_export_has_every_message_byte_for_byte_with_its_envelope() {
    let node = Node::start().await;
    let entry = enqueue(&node, "[::1]:25", greylisted("later"), 5).await;
    enqueue(&node, "c.example", None, 5).await;
    let dir = node.dir.path().join("out/queue");
    let answer: ExportAnswer = node.post("/v1/queue/export", &DirectoryRequest { dir: dir.clone() }).await;
    assert_eq!((answer.written, answer.failed.len()), (2, 0));
    let name = format!("{}.___1__25", entry.message.id);
    assert_eq!(std::fs::read(dir.join(format!("{name}.eml"))).unwrap(), CONTENT);
    let envelope: Value =
        serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
    assert_eq!(envelope["reverse_path"], "shop@customer.example");
    assert_eq!(envelope["recipients"][0]["forward_path"], "a@b.example");
    assert_eq!(envelope["recipients"][0]["last_reply"]["code"], 451);
    let (status, error, _) = node.post_refused("/v1/queue/export", &DirectoryRequest { dir }).await;
    assert!(status == StatusCode::BAD_REQUEST && error.contains("not empty"), "{error}");
    let relative = DirectoryRequest { dir: "out".into() };
    assert_eq!(node.post_refused("/v1/queue/export", &relative).await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn the_quarantine_is_listed_shown_and_downloaded() {
    let node = Node::start().await;
    let id = MessageId::new(node.now());
    let position = store(&node, Topic::Quarantined, id, &["a@b.example"]).await;
    let message = summary(id, "shop@customer.example", "bob");
    let row = QuarantineRow {
        symbols: judged(&message, &[]).symbols,
        recipients: vec!["a@b.example".parse().unwrap()],
        state: QuarantineState::In,
        since: NOW,
        by: "policy".into(),
        position,
        message,
    };
    let key = schemas::quarantine::key(&row.message.user, id);
    let record = NewRecord::new(
        Topic::Quarantine,
        "shop@customer.example",
        key.clone(),
        serde_json::to_vec(&row).unwrap(),
    );
    node.append(vec![record]).await;
    node.context.quarantine.wait_until(|view| view.held() == 1).await;

    let list: QuarantineAnswer = node.get("/v1/quarantine?identity=bob&classification=spam&since=10m").await;
    assert_eq!((list.total, list.messages[0].message.id), (1, id));
    assert!(list.messages[0].symbols[0].evidence.chars().count() == 201, "cut in lists");
    assert_eq!(node.get::<QuarantineAnswer>("/v1/quarantine?identity=eve").await.total, 0);
    assert_eq!(node.get::<QuarantineAnswer>("/v1/quarantine?state=released").await.total, 0);
    assert_eq!(node.get_refused("/v1/quarantine?state=gone").await.0, StatusCode::BAD_REQUEST);

    let details: QuarantineDetails = node.get(&format!("/v1/quarantine/{id}")).await;
    assert_eq!((details.envelope.recipients.len(), details.symbols[0].evidence.len()), (1, 300));
    assert!(details.score.is_some() && !details.explanation.is_empty());
    let request = Request::get(format!("/v1/quarantine/{id}/eml")).body(Body::empty()).unwrap();
    assert_eq!(&node.send(request).await.1[..], CONTENT);
    assert_eq!(node.get_refused("/v1/quarantine/nonsense").await.0, StatusCode::BAD_REQUEST);
    let other = MessageId::new(node.now());
    assert_eq!(node.get_refused(&format!("/v1/quarantine/{other}")).await.0, StatusCode::NOT_FOUND);

    node.append(vec![NewRecord::tombstone(Topic::Quarantine, "shop@customer.example", key)]).await;
    node.context.quarantine.wait_until(|view| view.held() == 0).await;
    assert_eq!(node.get::<QuarantineAnswer>("/v1/quarantine?state=all").await.total, 0);
    node.stop().await;
}

#[tokio::test]
async fn identities_tell_who_sends_and_by_which_header_they_were_found() {
    let node = Node::start().await;
    let row = |identity: Option<&str>, source: &str, minutes: u64, released| SenderRow {
        user: UserId("192.0.2.1/32".into()),
        domain: Domain::parse("customer.example").unwrap(),
        identity: identity.map(|i| Identity(i.into())),
        identity_source: source.into(),
        first_seen: NOW,
        last_seen: NOW.minus(Duration::from_secs(60 * minutes)),
        released,
        quarantined: 1,
        lock: Some(Lock {
            since: NOW,
            until: Some(NOW.plus(Duration::from_secs(60))),
            by: "policy".into(),
            reason: "x".into(),
        }),
        counters: schemas::limits::Counters::default(),
        outcomes: schemas::outcomes::Outcomes::default(),
        held: 0,
        blocked_at: Vec::new(),
        blocked: Vec::new(),
        automatic_unlocks: 0,
        lock_history: Vec::new(),
    };
    let rows = [
        row(None, "", 1, 9),
        row(Some("bob@customer.example"), "header:X-AuthUser", 1, 5),
        row(Some("/home/shop/mail.php"), "header:X-PHP-Originating-Script", 5, 2),
        row(Some("eve@customer.example"), "header:X-AuthUser", 30, 2),
    ];
    for row in &rows {
        let key = schemas::senders::key(&row.user, row.identity.as_ref());
        node.append(vec![NewRecord::new(
            Topic::Senders,
            "192.0.2.1/32",
            key,
            serde_json::to_vec(row).unwrap(),
        )])
        .await;
    }
    node.context.senders.wait_until(|view| view.rows().count() == 4).await;
    let recent: IdentitiesAnswer = node.get("/v1/identities?since=10m&user=192.0.2.1").await;
    assert_eq!((recent.total, recent.users.len()), (2, 1));
    assert_eq!(recent.identities[0].identity.as_ref().unwrap().0, "bob@customer.example");
    assert_eq!(
        (recent.coverage[0].identity_source.as_str(), recent.coverage[0].messages),
        ("header:X-AuthUser", 6)
    );
    assert!(recent.identities[0].lock.is_some());
    node.clock.advance(Duration::from_secs(120));
    let all: IdentitiesAnswer = node.get("/v1/identities").await;
    assert_eq!(all.total, 3);
    assert!(all.identities.iter().all(|row| row.lock.is_none()), "locks that are over are not told");
    assert_eq!(node.get_refused("/v1/identities?since=soon").await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn status_and_backup() {
    let node = Node::start().await;
    enqueue(&node, "b.example", None, 5).await;
    node.context.settings.caught_up().await;
    let status: StatusAnswer = node.get("/v1/status").await;
    assert!(status.accepting && status.queue_entries == 1 && status.queue_oldest == Some(NOW), "{status:?}");
    assert_eq!(status.unattended_lanes, ["node1"], "the entry says nothing of when its message was stored");
    assert_eq!(status.cluster_key, node.cluster_key.fingerprint());
    assert!(
        status.lag.iter().any(|lag| lag.group == "delivery" && lag.records == Some(1)),
        "{:?}",
        status.lag
    );
    assert!(status.views.iter().any(|view| view.name == "settings" && view.caught_up));
    *node.obstacle.lock().unwrap() = Some("delivery is far behind".into());
    let status: StatusAnswer = node.get("/v1/status").await;
    assert_eq!((status.accepting, status.reason.as_deref()), (false, Some("delivery is far behind")));

    let dir = node.dir.path().join("backup");
    let _: BackupAnswer = node.post("/v1/backup", &DirectoryRequest { dir: dir.clone() }).await;
    assert!(dir.read_dir().unwrap().count() > 0);
    assert_eq!(node.post_refused("/v1/backup", &DirectoryRequest { dir }).await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn whoever_asks_must_be_nameable() {
    let node = Node::start().await;
    let request = Request::post("/v1/queue/export")
        .header(control::api::ACTOR_HEADER, "x".repeat(300))
        .body(Body::from("{}"));
    assert_eq!(node.send(request.unwrap()).await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}
