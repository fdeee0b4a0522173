//! Inserts whose fate is unknown: what was written half, and what is sent again.

#![allow(clippy::disallowed_methods)] // what is killed, and when, is up to the clock on the wall

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reporter::Error;
use reporter::store::Inserted;

use super::{everything, expected, messages, open};
use crate::events::batch;
use crate::server::Server;
use crate::suite;

#[test]
fn what_stands_in_the_table_and_in_no_view_is_completed() {
    let server = Server::shared();
    let target = server.new_database();
    let (store, database) = (open(&target), &target.database);
    suite::take(&store, &messages(0..10).batch());
    // A view that fails: the row is in the table, some views have it and others do not, and the answer is an error.
    server.ask(&format!(
        "CREATE MATERIALIZED VIEW {database}.broken ENGINE = Null AS SELECT throwIf(recipient = 0, 'full') AS x FROM {database}.outcomes"
    ));
    let second = messages(0..20);
    for _ in 0..3 {
        assert!(matches!(store.insert(&second.batch()), Err(Error::Store(_))));
    }
    let half = server.ask(&format!("SELECT count() FROM {database}.outcomes WHERE log_offset >= 10"));
    assert_ne!(half, "0", "the failure comes after the table has its rows");
    server.ask(&format!("DROP TABLE {database}.broken"));
    // By a process that was started anew.
    let store = open(&target);
    suite::take(&store, &second.batch());
    suite::take(&store, &second.batch());
    assert_eq!(suite::sums(&store), expected(20));
    assert_eq!(everything(&store).0.len(), 20);
    let tables = "SELECT count(), uniqExact(message_id, recipient, event_id)";
    let counts = server.ask(&format!("{tables} FROM {database}.outcomes"));
    assert_eq!(counts, "52\t52", "no row stands twice, not even until a merge");
}

#[test]
fn another_cut_of_what_is_known_changes_nothing() {
    let server = Server::shared();
    let store = open(&server.new_database());
    let events = messages(0..30);
    for size in [7, 11, 90, 1] {
        for cut in events.changes.chunks(size) {
            suite::take(&store, &batch(cut.to_vec()));
        }
        assert_eq!(suite::sums(&store), expected(30), "in batches of {size}");
    }
}

/// The table has the batch since long, so that the windows of the views may have forgotten it: nobody can say which of
/// them counted it.
#[test]
fn a_retry_that_comes_too_late_has_its_month_made_again() {
    let server = Server::shared();
    for forgotten in [false, true] {
        let target = server.new_database();
        let (store, database) = (open(&target), &target.database);
        let events = messages(0..20);
        suite::take(&store, &events.batch());
        let before = everything(&store);
        server.ask(&format!(
            "ALTER TABLE {database}.outcomes UPDATE inserted_at = inserted_at - 3600 WHERE 1 SETTINGS mutations_sync = 2"
        ));
        if forgotten {
            server.ask(&format!("TRUNCATE TABLE {database}.hourly"));
            server.ask(&format!("TRUNCATE TABLE {database}.recipients"));
            // and a part of a large insert never arrived
            server.ask(&format!("DELETE FROM {database}.outcomes WHERE log_offset > 9"));
        }
        suite::take(&store, &events.batch());
        assert!(everything(&store) == before);
    }
}

#[test]
fn a_server_that_is_killed_again_and_again_counts_everything_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start_on(directory.path());
    let target = server.new_database();
    let store = open(&target);
    let events = messages(0..400);
    let done = AtomicBool::new(false);
    let kills = std::thread::scope(|scope| {
        scope.spawn(|| {
            for cut in events.changes.chunks(25) {
                let batch = batch(cut.to_vec());
                while !matches!(store.insert(&batch), Ok(Inserted::Taken)) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut kills = 0;
        while !done.load(Ordering::Acquire) && kills < 12 {
            // Odd times, so that each kill meets another step of an insert.
            std::thread::sleep(Duration::from_millis(150 + 37 * (kills % 11)));
            server.kill();
            server.start_again();
            kills += 1;
        }
        kills
    });
    println!("killed {kills} times");
    assert!(kills >= 2, "it was under way when it was killed");
    assert_eq!(suite::sums(&store), expected(400));
    assert_eq!(everything(&store).0.len(), 400);
}

#[test]
fn a_batch_over_the_size_of_an_insert_is_cut_the_same_each_time() {
    let server = Server::shared();
    let target = server.new_database();
    let store = open(&target);
    let events = messages(0..40_000);
    suite::take(&store, &events.batch());
    suite::take(&store, &events.batch());
    assert_eq!(suite::sums(&store), expected(40_000));
}
