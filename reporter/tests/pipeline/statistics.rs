use std::sync::Arc;

use reporter::store::query::{LogFilter, StatsLine};
use schemas::Topic;
use schemas::attempt::Outcome;
use schemas::verdict::Classification;

use crate::events::{attempt, judged, released, summary};
use crate::faulty::FaultyLog;
use crate::site::{DAY, Reporter, Site};

/// Messages to different users, so that all partitions have some: every fifth quarantined, every seventh deferred first.
pub async fn send(site: &Site, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let is_spam = number % 5 == 0;
        let mut message = summary(number, if is_spam { Classification::Spam } else { Classification::Clean });
        message.user = schemas::UserId(format!("user{}@customer.example", number % 8));
        site.verdict(&judged(&message, &["a@one.example"])).await;
        if is_spam {
            continue;
        }
        if number % 7 == 0 {
            site.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "a@one.example")])).await;
        }
        site.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "a@one.example")])).await;
    }
}

/// What `send(0..count)` must come to.
pub fn expected(count: u64) -> StatsLine {
    let quarantined = count.div_ceil(5);
    let deferrals = (0..count).filter(|n| n % 7 == 0 && n % 5 != 0).count() as u64;
    StatsLine {
        group: "customer.example".into(),
        messages: count,
        recipients: count,
        bytes: count * 10_000,
        quarantined,
        delivered: count - quarantined,
        deferrals,
        ..StatsLine::default()
    }
}

pub async fn until(reporter: &Reporter, count: u64) {
    let wanted = expected(count);
    assert_eq!(reporter.until_sums(|sums| *sums == wanted).await, wanted);
    let filter = LogFilter { limit: Some(10_000), ..LogFilter::default() };
    assert_eq!(reporter.store.log(&filter).unwrap().len() as u64, count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recipient_has_a_row_and_counts_once() {
    let site = Site::open();
    let reporter = site.start();
    send(&site, 0..60).await;
    // what cannot be read stops nothing
    site.append(Topic::Verdicts, &summary(0, Classification::Clean), "no json".into()).await;
    send(&site, 60..100).await;
    until(&reporter, 100).await;
    assert_eq!(reporter.metrics.unreadable.get(), 1);
    let spam = summary(5, Classification::Spam);
    let mut spam = spam.clone();
    spam.user = schemas::UserId("user5@customer.example".into());
    site.verdict(&released(&spam)).await;
    site.attempt(&attempt(&spam, 1, Outcome::Delivered, &[(0, "a@one.example")])).await;
    let sums = reporter.until_sums(|sums| sums.delivered == 81).await;
    assert_eq!((sums.quarantined, sums.recipients), (19, 100));
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_counts_everything_once() {
    let site = Site::open();
    for round in 0..8u32 {
        let reporter = site.start();
        send(&site, round * 25..(round + 1) * 25).await;
        // at a different point each time
        let some = u64::from(round) * 20;
        reporter.until_sums(|sums| sums.messages >= some).await;
        reporter.kill().await;
    }
    let reporter = site.start();
    until(&reporter, 200).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_unknown_fate_count_once() {
    let site = Site::open();
    let log = FaultyLog::in_commits(&site.log, &Arc::default(), 3);
    send(&site, 0..40).await;
    let reporter = site.start_on(log, site.database());
    until(&reporter, 40).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_database_is_made_again_from_the_log() {
    let site = Site::open();
    let reporter = site.start();
    send(&site, 0..50).await;
    until(&reporter, 50).await;
    // while it runs: the next batch shows that what came before is gone
    std::fs::remove_file(site.database()).unwrap();
    send(&site, 50..60).await;
    until(&reporter, 60).await;
    site.until_done("reporter", Topic::Attempts).await;
    reporter.stop().await;
    // while it does not
    for file in std::fs::read_dir(site.directory.path()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("statistics.") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    let reporter = site.start();
    until(&reporter, 60).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_stops_nothing() {
    let site = Site::open();
    let database = site.directory.path().join("not/there/statistics.sqlite");
    let reporter = site.start_on(Arc::clone(&site.log), database.clone());
    send(&site, 0..20).await;
    assert_eq!(site.reports().await.len(), 4, "feedback reports do not wait for statistics");
    assert!(reporter.get("/v1/stats").await.0.is_server_error());
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    until(&reporter, 20).await;
    assert!(reporter.metrics.store_failures.get() > 0);
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_while_its_database_cannot_be_used() {
    let site = Site::open();
    let reporter = site.start_on(Arc::clone(&site.log), site.directory.path().join("not/there.sqlite"));
    send(&site, 0..5).await;
    site.until_done("feedback", Topic::Verdicts).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_time_goes() {
    let site = Site::open();
    let reporter = site.start();
    send(&site, 0..20).await;
    until(&reporter, 20).await;
    site.clock.advance(89 * DAY);
    assert_eq!(reporter.sums().await, expected(20));
    site.clock.advance(2 * DAY);
    reporter.until_sums(|sums| sums.messages == 0).await;
    reporter.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_says_how_it_is_made_again() {
    let site = Site::open();
    let reporter = site.start();
    let month = serde_json::json!({"month": "2026-11"});
    let (status, error) = reporter.post("/v1/statistics/rebuild", month).await;
    assert_eq!(status, 400);
    assert!(
        error["error"].as_str().unwrap().contains("move") && error.to_string().contains("statistics.sqlite")
    );
    reporter.stop().await;
}
