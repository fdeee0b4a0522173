use std::time::Duration;

use axum::http::StatusCode;
use control::api::{ModelAnswer, RollbackRequest};
use eventlog::NewRecord;
use schemas::Topic;
use schemas::models::{self, Delta, ModelRecord};

use super::node::{ACTOR, Node};

fn version(number: u64, why: &str) -> NewRecord {
    let delta = Delta { number, base: "default-1".into(), why: why.into(), ..Delta::default() };
    let record = ModelRecord::Delta(delta);
    let key = models::key(&record);
    NewRecord::new(Topic::Models, key.clone(), key, serde_json::to_vec(&record).unwrap())
}

/// The key of the rollback that was asked for, as soon as it is.
async fn asked(node: &Node) -> String {
    loop {
        let mut table = node.log.table(Topic::Models, None).await.unwrap();
        'table: loop {
            for event in table.next(100).await.unwrap() {
                match event {
                    eventlog::TableEvent::CaughtUp => break 'table,
                    eventlog::TableEvent::Row(record) => {
                        let key = String::from_utf8(record.key.to_vec()).unwrap();
                        if key.starts_with("rollback/") {
                            return key;
                        }
                    }
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn removed(key: String) -> NewRecord {
    NewRecord::tombstone(Topic::Models, key.clone(), key)
}

#[tokio::test]
async fn a_rollback_is_done_when_the_learner_has_done_it() {
    let node = Node::start().await;
    node.append(vec![version(1, "2 corrections"), version(2, "1 corrections")]).await;
    let request = RollbackRequest { to: 1 };
    let mut ask = Box::pin(node.post::<ModelAnswer>("/v1/model/rollback", &request));
    let key = tokio::select! {
        key = asked(&node) => key,
        answer = &mut ask => panic!("{answer:?}"),
    };
    // A version that was under way is not the answer.
    node.append(vec![version(3, "4 corrections")]).await;
    let early = tokio::time::timeout(Duration::from_millis(200), &mut ask).await;
    assert!(early.is_err(), "{early:?}");
    node.append(vec![version(4, &models::rolled_back(1, ACTOR)), removed(key)]).await;
    let answer = ask.await;
    let numbers: Vec<u64> = answer.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    node.stop().await;
}

#[tokio::test]
async fn a_rollback_that_the_learner_refuses_is_refused() {
    let node = Node::start().await;
    node.append(vec![version(1, "2 corrections")]).await;
    let request = RollbackRequest { to: 1 };
    let ask = node.post_refused("/v1/model/rollback", &request);
    let learn = async {
        let key = asked(&node).await;
        // In one batch with corrections.
        node.append(vec![version(2, "4 corrections"), removed(key)]).await;
    };
    let ((status, error, _), ()) = tokio::join!(ask, learn);
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.contains("another model"), "{error}");
    // Nobody there to do it.
    let (status, error, _) = node.post_refused("/v1/model/rollback", &request).await;
    assert_eq!((status, error.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "given, not yet done"));
    let (status, ..) = node.post_refused("/v1/model/rollback", &RollbackRequest { to: 9 }).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    node.stop().await;
}
