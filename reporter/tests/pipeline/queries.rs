use axum::http::StatusCode;
use reporter::queries::Trace;
use reporter::store::query::LogLine;
use schemas::attempt::{AttemptEvent, Outcome};
use schemas::verdict::{Classification, VerdictEvent};

use crate::events::{attempt, judged, released, summary};
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_tells_the_whole_story_in_order() {
    let site = Site::open();
    let reporter = site.start();
    let message = summary(1, Classification::Spam);
    site.verdict(&judged(&message, &["a@one.example"])).await;
    site.verdict(&released(&message)).await;
    site.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "a@one.example")])).await;
    site.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "a@one.example")])).await;
    reporter.until_sums(|sums| sums.delivered == 1).await;
    for id in [message.id.to_string().as_str(), "4QwErT000001", "%3Cm1%40customer.example%3E"] {
        let (status, trace) = reporter.get(&format!("/v1/trace/{id}")).await;
        assert_eq!(status, StatusCode::OK);
        let trace: Trace = serde_json::from_value(trace).unwrap();
        assert_eq!(trace.message_ids, [message.id.to_string()]);
        let [first, second, third, fourth] = &trace.events[..] else { panic!("{trace:?}") };
        let Some(VerdictEvent::Judged(verdict)) = &first.verdict else { panic!("{first:?}") };
        assert_eq!(verdict.client.ip().to_string(), "192.0.2.1");
        assert_eq!(verdict.symbols[0].evidence, "the test string");
        assert!(matches!(&second.verdict, Some(VerdictEvent::Released { by, .. }) if by == "root"));
        let reply = |event: &Option<AttemptEvent>| match event {
            Some(AttemptEvent::Attempt(attempt)) => attempt.recipients[0].reply.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!((reply(&third.attempt), reply(&fourth.attempt)), ("451 try 1".into(), "250 try 2".into()));
        assert!(trace.events.is_sorted_by_key(|event| event.at));
    }
    let (status, unknown) = reporter.get("/v1/trace/unknown").await;
    assert_eq!((status, unknown["message_ids"].as_array().map(Vec::len)), (StatusCode::OK, Some(0)));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_and_sums_answer_and_mistakes_are_told() {
    let site = Site::open();
    let reporter = site.start();
    for number in 1..4 {
        site.verdict(&judged(&summary(number, Classification::Clean), &["a@one.example", "b@two.example"]))
            .await;
    }
    reporter.until_sums(|sums| sums.messages == 3).await;
    let (_, lines) = reporter.get("/v1/log?recipient=%3CB%40Two.example%3E&limit=2").await;
    let lines: Vec<LogLine> = serde_json::from_value(lines).unwrap();
    assert!(lines.is_empty(), "local-parts keep their case");
    let (_, lines) = reporter.get("/v1/log?recipient=b%40Two.example&limit=2&outcome=queued").await;
    assert_eq!(serde_json::from_value::<Vec<LogLine>>(lines).unwrap().len(), 2);
    let (_, by_identity) = reporter.get("/v1/stats?group_by=identity&domain=customer.example").await;
    assert_eq!(by_identity.as_array().map(Vec::len), Some(3));

    for (path, tells) in [
        ("/v1/log?outcome=lost", "outcome: `lost`"),
        ("/v1/log?classification=bad", "classification: `bad`"),
        ("/v1/log?recipient=nobody", "recipient: `nobody`"),
        ("/v1/log?limit=x", "limit"),
        ("/v1/log?since=yesterday", "since"),
        ("/v1/log?since=5&until=5", "since, until"),
        ("/v1/log?sender=x", "sender"),
        ("/v1/stats?group_by=colour", "from_domain"),
        ("/v1/stats?domian=x", "domian"),
    ] {
        let (status, body) = reporter.get(path).await;
        let error = body["error"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && error.contains(tells), "{path}: {status} {error}");
    }
    reporter.stop().await;
}
