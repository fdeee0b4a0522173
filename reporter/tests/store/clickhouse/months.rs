//! Months as a whole: made again from the table, and told apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reporter::store::Month;
use schemas::verdict::Classification;

use super::{everything, messages, open};
use crate::events::{judged, summary};
use crate::server::Server;
use crate::suite;

#[test]
fn a_month_that_is_made_again_equals_what_was_there() {
    let server = Server::shared();
    let target = server.new_database();
    let (store, database) = (open(&target), &target.database);
    let mut events = messages(0..50);
    let next_month = summary(8 * 86_400, Classification::Clean);
    events.verdict(&judged(&next_month, &["a@one.example"]));
    suite::take(&store, &events.batch());
    let (id, made) = (
        summary(1, Classification::Clean).id.to_string(),
        ["recipients", "hourly", "latency_hourly", "events"],
    );
    let everything = || {
        let latency = format!("SELECT sum(recipients), sum(total_ms) FROM {database}.latency_hourly");
        (everything(&store), store.events(&id).unwrap(), server.ask(&latency))
    };
    let before = everything();
    store.rebuild("2026-11".parse().unwrap()).unwrap();
    assert!(everything() == before);
    for table in made {
        server.ask(&format!("TRUNCATE TABLE {database}.{table}"));
    }
    assert!(everything() != before);
    for month in ["2026-11", "2026-12"] {
        store.rebuild(month.parse().unwrap()).unwrap();
    }
    assert!(everything() == before);
    // what was taken before still counts once, and what comes later counts on
    suite::take(&store, &events.batch());
    assert!(everything() == before);
    suite::take(&store, &messages(0..60).batch());
    assert_eq!(suite::sums(&store).messages, 61);
}

/// Two processes on one database, as in a cluster: what the one inserts while the other makes the month again is in every
/// table.
#[test]
fn a_month_is_made_again_while_another_reporter_writes() {
    const MESSAGES: u32 = 200;
    let server = Server::shared();
    let (target, quiet) = (server.new_database(), server.new_database());
    let (rebuilding, writing) = (open(&target), open(&target));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The log, longer by some messages each time, as a reporter that reads on takes it.
            for end in (0..=MESSAGES).step_by(10).skip(1) {
                let batch = messages(0..end).batch();
                while writing.insert(&batch).is_err() {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut times = 0;
        while !done.load(Ordering::Relaxed) || times == 0 {
            rebuilding.rebuild("2026-11".parse().unwrap()).unwrap();
            times += 1;
            // Lets the other one in.
            std::thread::park_timeout(Duration::from_millis(500));
        }
    });
    let undisturbed = open(&quiet);
    suite::take(&undisturbed, &messages(0..MESSAGES).batch());
    assert!(everything(&writing) == everything(&undisturbed));
    let counts = |database: &str| {
        ["latency_hourly", "events"].map(|table| {
            let what = if table == "events" { "uniqExact(message_id, event_id)" } else { "sum(recipients)" };
            server.ask(&format!("SELECT {what} FROM {database}.{table}"))
        })
    };
    assert_eq!(counts(&target.database), counts(&quiet.database));
}

#[test]
fn two_do_not_make_a_month_again_at_once() {
    let server = Server::shared();
    let target = server.new_database();
    let store = open(&target);
    suite::take(&store, &messages(0..5).batch());
    server.ask(&format!(
        "INSERT INTO {}.pauses (by, until) SELECT '0-0', now64(3) + INTERVAL 600 SECOND",
        target.database
    ));
    let busy =
        |error: reporter::Error| assert!(error.to_string().contains("being made again by 0-0"), "{error}");
    busy(store.rebuild("2026-11".parse().unwrap()).unwrap_err());
    busy(store.insert(&messages(0..10).batch()).unwrap_err());
    // Its owner died, and its time is over.
    server.ask(&format!(
        "INSERT INTO {}.pauses (by, until) SELECT '0-0', now64(3) - INTERVAL 1 SECOND",
        target.database
    ));
    store.rebuild("2026-11".parse().unwrap()).unwrap();
    suite::take(&store, &messages(0..10).batch());
    assert_eq!(suite::sums(&store).messages, 10);
}

#[test]
fn a_month_of_which_nothing_is_known_becomes_empty() {
    let server = Server::shared();
    let store = open(&server.new_database());
    suite::take(&store, &messages(0..5).batch());
    let before = everything(&store);
    store.rebuild("2025-01".parse().unwrap()).unwrap();
    assert!(everything(&store) == before);
    for text in ["2026-13", "202611", "11-2026", "2026-1", ""] {
        let error = text.parse::<Month>().unwrap_err().to_string();
        assert!(error.contains("write it as 2026-11"), "{error}");
    }
}

#[test]
fn an_insert_has_rows_of_one_month() {
    let server = Server::shared();
    let target = server.new_database();
    let store = open(&target);
    let mut events = messages(0..10);
    events.verdict(&judged(&summary(8 * 86_400, Classification::Clean), &["a@one.example"]));
    suite::take(&store, &events.batch());
    let months = server.ask(&format!(
        "SELECT uniqExact(toYYYYMM(accepted)) AS months, countDistinct(batch) FROM {}.outcomes GROUP BY batch ORDER BY months DESC LIMIT 1",
        target.database
    ));
    assert_eq!(months, "1\t1");
}

#[test]
fn an_erased_address_is_in_no_table() {
    let server = Server::shared();
    let target = server.new_database();
    let store = open(&target);
    suite::take(&store, &messages(0..30).batch());
    let before = suite::sums(&store);
    assert_eq!(store.erase("A@one.example").unwrap(), 30);
    assert_eq!(store.erase("shop1@customer.example").unwrap(), 10);
    assert_eq!(store.erase("nobody@one.example").unwrap(), 0);
    let tables = server.ask(&format!(
        "SELECT name FROM system.tables WHERE database = '{}' AND engine LIKE '%MergeTree'",
        target.database
    ));
    for table in tables.lines() {
        let text = server.ask(&format!("SELECT * FROM {}.{table}", target.database)).to_lowercase();
        assert!(
            !text.contains("a@one.example") && !text.contains("shop1@customer.example"),
            "{table}: {text}"
        );
    }
    assert_eq!(suite::sums(&store), before);
    // an hour later somebody sends to the same address: a new row, which nobody asked to erase
    let again = summary(40, Classification::Clean);
    assert!(again.accepted_at > summary(30, Classification::Clean).accepted_at.plus(Duration::from_secs(5)));
}
