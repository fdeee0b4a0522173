//! The reporter with ClickHouse: batches are planned in the log, and whatever ends between plan and insert, between insert
//! and commit, or at the server, everything counts once.

use std::sync::Arc;
use std::time::Duration;

use eventlog::NewRecord;
use schemas::Topic;
use schemas::plan::Plan;
use serde_json::json;

use crate::faulty::FaultyLog;
use crate::server::Server;
use crate::site::{DAY, KEEP_ON_CLICKHOUSE, Site};
use crate::statistics::{expected, send, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recipient_has_a_row_and_counts_once() {
    let (site, target) = (Site::open(), Server::shared().new_database());
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 0..100).await;
    until(&reporter, 100).await;
    reporter.stop().await;
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 100..120).await;
    until(&reporter, 120).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_counts_everything_once() {
    let (site, target) = (Site::open(), Server::shared().new_database());
    for round in 0..8u32 {
        let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
        send(&site, round * 25..(round + 1) * 25).await;
        // Around the end of the time in which a batch is gathered: before the plan, after it, in the insert, after it.
        tokio::time::sleep(Duration::from_millis(1950 + 35 * u64::from(round))).await;
        reporter.kill().await;
    }
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    until(&reporter, 200).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_unknown_fate_count_once() {
    let (site, target) = (Site::open(), Server::shared().new_database());
    let log = FaultyLog::in_commits(&site.log, &Arc::default(), 3);
    send(&site, 0..40).await;
    let reporter = site.start_on_clickhouse(log, &target);
    until(&reporter, 40).await;
    reporter.stop().await;
}

/// What a crash leaves between the plan and the insert: the plan, which says where the batch ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_batch_is_inserted_as_it_was_planned() {
    let (site, server) = (Site::open(), Server::shared());
    let target = server.new_database();
    send(&site, 0..80).await;
    let mut planned = 0;
    for partition in 0..site.log.partitions(Topic::Verdicts) {
        let plan = Plan { topic: Topic::Verdicts, partition, first: 0, next: 4 };
        let record = NewRecord::new(Topic::Plans, plan.key(), plan.key(), serde_json::to_vec(&plan).unwrap());
        site.log.append(vec![record]).await.unwrap();
        planned += 1;
    }
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    until(&reporter, 80).await;
    reporter.stop().await;
    let cuts = format!(
        "SELECT uniqExact(batch) FROM {}.outcomes WHERE batch LIKE 'verdicts/%/0-3/%'",
        target.database
    );
    assert_eq!(server.ask(&cuts), planned.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_for_a_while_stops_nothing_and_misses_nothing() {
    let site = Site::open();
    let mut server = Server::start_on(&site.directory.path().join("clickhouse"));
    let target = server.new_database();
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 0..30).await;
    until(&reporter, 30).await;
    server.kill();
    send(&site, 30..90).await;
    assert_eq!(site.reports().await.len(), 18, "feedback reports do not wait for statistics");
    assert!(reporter.get("/v1/stats").await.0.is_server_error());
    // until a batch was refused
    tokio::time::timeout(Duration::from_secs(20), async {
        while reporter.metrics.store_failures.get() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    server.start_again();
    until(&reporter, 90).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_database_is_made_again_from_the_log() {
    let (site, server) = (Site::open(), Server::shared());
    let target = server.new_database();
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 0..50).await;
    until(&reporter, 50).await;
    server.ask(&format!("DROP DATABASE {} SYNC", target.database));
    send(&site, 50..60).await;
    until(&reporter, 60).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_time_goes() {
    let (site, target) = (Site::open(), Server::shared().new_database());
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 0..20).await;
    until(&reporter, 20).await;
    site.clock.advance(KEEP_ON_CLICKHOUSE - DAY);
    assert_eq!(reporter.sums().await, expected(20));
    site.clock.advance(2 * DAY);
    reporter.until_sums(|sums| sums.messages == 0).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_has_a_month_made_again_and_an_address_erased() {
    let (site, server) = (Site::open(), Server::shared());
    let target = server.new_database();
    let reporter = site.start_on_clickhouse(Arc::clone(&site.log), &target);
    send(&site, 0..30).await;
    until(&reporter, 30).await;
    server.ask(&format!("TRUNCATE TABLE {}.hourly", target.database));
    let (status, _) = reporter.post("/v1/statistics/rebuild", json!({"month": "2026-11"})).await;
    assert_eq!(status, 200);
    until(&reporter, 30).await;
    let (status, error) = reporter.post("/v1/statistics/rebuild", json!({"month": "November"})).await;
    assert_eq!(status, 400, "{error}");
    let (status, answer) = reporter.post("/v1/statistics/erase", json!({"address": "a@one.example"})).await;
    assert_eq!((status.as_u16(), &answer["rows"]), (200, &json!(30)));
    until(&reporter, 30).await;
    let (_, found) = reporter.get("/v1/log?recipient=a@one.example").await;
    assert_eq!(found, json!([]));
    reporter.stop().await;
}
