use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use control::api::{CommandOutcome, LockRequest, QuarantineRequest, QuarantineSelect, UnlockRequest};
use eventlog::{Log, NewRecord, Polled};
use schemas::commands::{Action, Command};
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::reply::Reply;
use schemas::senders::SenderRow;
use schemas::unlock_link::UnlockLink;
use schemas::{MessageId, Position, Topic};
use serde_json::json;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::node::{ACTOR, NOW, Node, summary};

const SETTINGS: &str = "[[domain]]\nname = \"customer.example\"\n[[outgoing_user]]\ndomain = \"customer.example\"\nip = \"192.0.2.0/28\"\n[[outgoing_user]]\ndomain = \"customer.example\"\nlogin = \"shop@customer.example\"\npassword = \"x\"\n";

/// Answers every command as whoever carries it out would, and passes it on to the test.
fn worker(log: Log, ok: bool) -> mpsc::UnboundedReceiver<(u32, Command)> {
    answering(log, ok, u64::from(ok))
}

fn answering(log: Log, ok: bool, affected: u64) -> mpsc::UnboundedReceiver<(u32, Command)> {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut consumer = log.join("worker", "w1", &[Topic::Commands]).await.unwrap();
        loop {
            let Ok(polled) = consumer.poll(100, Duration::from_millis(100)).await else { return };
            let Polled::Records(records) = polled else { continue };
            for record in records {
                let command: Command = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
                let reply = Reply::Command {
                    command_id: command.id.clone(),
                    ok,
                    affected,
                    text: format!("answer to {}", command.id),
                };
                let value = serde_json::to_vec(&reply).unwrap();
                let out = NewRecord::new(Topic::Replies, "", command.id.clone(), value)
                    .in_partition(command.reply_partition.unwrap());
                let at = record.position;
                consumer.commit(vec![out], &[(at.topic_partition(), at.offset + 1)]).await.unwrap();
                let _ = tell.send((at.partition, command));
            }
        }
    });
    told
}

async fn node_with_users() -> Node {
    let node = Node::start().await;
    let request = json!({ "text": SETTINGS });
    let _: control::api::ApplyAnswer = node.post("/v1/settings/apply", &request).await;
    node
}

async fn quarantine(node: &Node, user: &str, identity: &str, state: QuarantineState) -> MessageId {
    let id = MessageId::new(node.now());
    let message = summary(id, user, identity);
    let row = QuarantineRow {
        recipients: vec!["a@b.example".parse().unwrap()],
        symbols: Vec::new(),
        since: node.now(),
        by: "policy".into(),
        position: Position { topic: Topic::Quarantined, partition: 0, offset: 0 },
        state,
        message,
    };
    let key = schemas::quarantine::key(&row.message.user, id);
    let value = serde_json::to_vec(&row).unwrap();
    node.append(vec![NewRecord::new(Topic::Quarantine, user.to_owned(), key, value)]).await;
    node.context.quarantine.wait_until(|view| view.get(id).is_some()).await;
    id
}

#[tokio::test]
async fn a_lock_travels_in_the_users_partition_and_is_confirmed() {
    let node = node_with_users().await;
    let mut told = worker(node.log.clone(), true);
    let request = LockRequest {
        user: "192.0.2.0/28".into(),
        identity: Some("bob".into()),
        minutes: Some(30),
        reason: "phishing".into(),
    };
    let outcome: CommandOutcome = node.post("/v1/lock", &request).await;
    assert_eq!((outcome.matched, outcome.affected, outcome.pending, outcome.refused), (1, 1, 0, 0));
    assert!(outcome.text.iter().any(|line| line.contains("has not been seen")), "{:?}", outcome.text);
    let (partition, command) = told.recv().await.unwrap();
    assert_eq!(partition, node.log.partition_of(Topic::Commands, b"192.0.2.0/28"));
    assert_eq!(command.by, ACTOR);
    let Action::Lock { user, identity, until, .. } = command.action else { panic!("{command:?}") };
    assert_eq!((user.as_str(), identity.unwrap().0.as_str()), ("192.0.2.0/28", "bob"));
    assert_eq!(until, Some(node.now().plus(Duration::from_secs(1800))));

    let request =
        UnlockRequest { user: "SHOP@customer.example".into(), identity: None, reason: String::new() };
    let outcome: CommandOutcome = node.post("/v1/unlock", &request).await;
    assert_eq!(outcome.affected, 1);
    node.stop().await;
}

/// The page saw the lock that its link is for; another one may hold when the command arrives.
#[tokio::test]
async fn an_unlock_link_names_its_lock_and_says_when_another_holds() {
    for (affected, status) in [(1, StatusCode::OK), (0, StatusCode::GONE)] {
        let node = node_with_users().await;
        let row: SenderRow = serde_json::from_value(json!({
            "user": "192.0.2.0/28", "domain": "customer.example", "identity": null, "identity_source": "",
            "first_seen": NOW, "last_seen": NOW, "released": 0, "quarantined": 5,
            "lock": { "since": NOW, "until": null, "by": "policy", "reason": "5 messages blocked" },
        }))
        .unwrap();
        let key = schemas::senders::key(&row.user, None);
        let value = serde_json::to_vec(&row).unwrap();
        node.append(vec![NewRecord::new(Topic::Senders, "192.0.2.0/28", key, value)]).await;
        node.context.senders.wait_until(|view| view.get(&row.user, None).is_some()).await;
        let mut told = answering(node.log.clone(), true, affected);
        let link = UnlockLink {
            user: row.user,
            domain: row.domain,
            identity: None,
            since: NOW,
            to: schemas::Mailbox::parse("abuse@hoster.example").unwrap(),
        };
        let path = format!("/unlock/{}", link.token(&node.cluster_key));
        let pages = control::unlock_pages(node.context.clone());
        let response = pages.oneshot(Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
        let Action::Unlock { since, .. } = told.recv().await.unwrap().1.action else { panic!() };
        assert_eq!(since, Some(NOW));
        node.stop().await;
    }
}

#[tokio::test]
async fn locks_that_make_no_sense_are_refused_before_they_are_given() {
    let node = node_with_users().await;
    for (request, status, fix) in [
        (
            json!({"user": "shop@custmer.example", "reason": "x"}),
            StatusCode::NOT_FOUND,
            "did you mean `shop@customer.example`",
        ),
        (json!({"user": "192.0.2.5", "reason": "x"}), StatusCode::NOT_FOUND, "outgoing user 192.0.2.0/28"),
        (json!({"user": "shop@customer.example", "reason": " "}), StatusCode::BAD_REQUEST, "audit trail"),
        (
            json!({"user": "shop@customer.example", "reason": "x", "minutes": 0}),
            StatusCode::BAD_REQUEST,
            "minutes",
        ),
        (
            json!({"user": "shop@customer.example", "reason": "x", "identity": "<>"}),
            StatusCode::BAD_REQUEST,
            "identity",
        ),
        (
            json!({"user": "shop@customer.example", "reason": "x", "identiy": "y"}),
            StatusCode::BAD_REQUEST,
            "JSON",
        ),
    ] {
        let (found, error, told) = node.post_refused("/v1/lock", &request).await;
        assert!(found == status && told.contains(fix), "{request}: {found} {error} {told}");
    }
    node.stop().await;
}

#[tokio::test]
async fn without_a_worker_a_command_is_given_but_pending() {
    let node = node_with_users().await;
    let request = json!({"user": "shop@customer.example", "reason": "x"});
    let outcome: CommandOutcome = node.post("/v1/lock", &request).await;
    assert_eq!((outcome.affected, outcome.pending), (0, 1));
    assert!(outcome.text.iter().any(|line| line.contains("not yet confirmed")));
    // It is carried out once somebody is there.
    assert_eq!(worker(node.log.clone(), true).recv().await.unwrap().1.by, ACTOR);
    node.stop().await;
}

#[tokio::test]
async fn quarantined_messages_are_released_by_id_or_by_selection_with_a_count() {
    let node = node_with_users().await;
    let one = quarantine(&node, "192.0.2.0/28", "bob", QuarantineState::In).await;
    quarantine(&node, "192.0.2.0/28", "bob", QuarantineState::In).await;
    quarantine(&node, "192.0.2.0/28", "bob", QuarantineState::Released).await;
    quarantine(&node, "shop@customer.example", "eve", QuarantineState::In).await;
    let mut told = worker(node.log.clone(), true);

    let by_id = QuarantineRequest { message_ids: vec![one, one], ..QuarantineRequest::default() };
    let outcome: CommandOutcome = node.post("/v1/quarantine/release", &by_id).await;
    assert_eq!((outcome.matched, outcome.affected), (1, 1));
    let (_, command) = told.recv().await.unwrap();
    assert!(matches!(command.action, Action::Release { message_id, .. } if message_id == one));

    let select = QuarantineSelect { identity: Some("bob".into()), ..QuarantineSelect::default() };
    let mut by_selection = QuarantineRequest { select: Some(select), ..QuarantineRequest::default() };
    let (status, _, fix) = node.post_refused("/v1/quarantine/remove", &by_selection).await;
    assert_eq!((status, fix.contains("expected = 2")), (StatusCode::BAD_REQUEST, true));
    by_selection.expected = Some(3);
    assert_eq!(node.post_refused("/v1/quarantine/remove", &by_selection).await.0, StatusCode::CONFLICT);
    by_selection.expected = Some(2);
    by_selection.dry_run = true;
    let outcome: CommandOutcome = node.post("/v1/quarantine/remove", &by_selection).await;
    assert_eq!((outcome.dry_run, outcome.matched, outcome.affected), (true, 2, 0));
    by_selection.dry_run = false;
    let outcome: CommandOutcome = node.post("/v1/quarantine/remove", &by_selection).await;
    assert_eq!((outcome.matched, outcome.affected, outcome.text.len()), (2, 2, 2));

    let unknown =
        QuarantineRequest { message_ids: vec![MessageId::new(node.now())], ..QuarantineRequest::default() };
    assert_eq!(node.post_refused("/v1/quarantine/confirm", &unknown).await.0, StatusCode::NOT_FOUND);
    let nothing = QuarantineRequest::default();
    assert_eq!(node.post_refused("/v1/quarantine/confirm", &nothing).await.0, StatusCode::BAD_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_worker_is_told() {
    let node = node_with_users().await;
    let one = quarantine(&node, "192.0.2.0/28", "bob", QuarantineState::Released).await;
    let _told = worker(node.log.clone(), false);
    let by_id = QuarantineRequest { message_ids: vec![one], ..QuarantineRequest::default() };
    let outcome: CommandOutcome = node.post("/v1/quarantine/release", &by_id).await;
    assert_eq!((outcome.affected, outcome.refused, outcome.pending), (0, 1, 0));
    assert!(outcome.text[0].starts_with("answer to"));
    node.stop().await;
}

#[tokio::test]
async fn more_commands_than_one_append_takes() {
    let node = node_with_users().await;
    for _ in 0..600 {
        // One append each would take long; the last one is waited for.
        let id = MessageId::new(node.now());
        let row = json!({
            "message": summary(id, "192.0.2.0/28", "bob"), "state": "in", "recipients": [], "symbols": [],
            "since": node.now(), "by": "policy", "position": {"topic": "quarantined", "partition": 0, "offset": 0}
        });
        let key = schemas::quarantine::key(&schemas::UserId("192.0.2.0/28".into()), id);
        node.append(vec![NewRecord::new(Topic::Quarantine, "192.0.2.0/28", key, row.to_string())]).await;
    }
    node.context.quarantine.wait_until(|view| view.held() == 600).await;
    let _told = worker(node.log.clone(), true);
    let request = QuarantineRequest {
        select: Some(QuarantineSelect { user: Some("192.0.2.0/28".into()), ..QuarantineSelect::default() }),
        expected: Some(600),
        ..QuarantineRequest::default()
    };
    let outcome: CommandOutcome = node.post("/v1/quarantine/confirm", &request).await;
    assert_eq!((outcome.matched, outcome.affected, outcome.pending, outcome.text.len()), (600, 600, 0, 20));
    node.stop().await;
}
