//! Databases that are new, gone, half made or of another version, and servers that do not let us in.

use std::sync::Arc;
use std::time::Duration;

use reporter::store::Inserted;
use reporter::store::clickhouse::{ClickHouseStore, Target};
use reporter::{Error, StatsStore};

use super::{KEEP, everything, expected, messages, open};
use crate::server::Server;
use crate::suite;

#[test]
fn a_database_of_a_newer_version_is_told_at_the_start() {
    let server = Server::shared();
    let target = server.new_database();
    suite::take(&open(&target), &messages(0..5).batch());
    server.ask(&format!("INSERT INTO {}.migrations (version) VALUES (99)", target.database));
    let error = ClickHouseStore::open(target.clone(), KEEP).err().unwrap();
    assert!(matches!(error, Error::Query(_)));
    let error = error.to_string();
    assert!(error.contains("newer version (schema 99") && error.contains("statistics.clickhouse"), "{error}");
}

#[test]
fn tables_that_were_made_half_are_completed_and_lose_nothing() {
    let server = Server::shared();
    let target = server.new_database();
    let database = &target.database;
    suite::take(&open(&target), &messages(0..20).batch());
    // As a start that ended in the middle of the first migration leaves it.
    server.ask(&format!("TRUNCATE TABLE {database}.migrations"));
    server.ask(&format!("DROP TABLE {database}.latency_hourly_view"));
    server.ask(&format!("DROP TABLE {database}.latency_hourly SYNC"));
    let store = open(&target);
    assert_eq!(suite::sums(&store), expected(20));
    assert_eq!(server.ask(&format!("SELECT max(version) FROM {database}.migrations")), "2");
    suite::take(&store, &messages(0..30).batch());
    assert_eq!(suite::sums(&store), expected(30));
    assert_eq!(server.ask(&format!("SELECT sum(recipients) FROM {database}.latency_hourly")), "16");
}

#[test]
fn a_database_that_was_dropped_is_noticed_and_made_again() {
    let server = Server::shared();
    let target = server.new_database();
    let store = open(&target);
    let events = messages(0..10);
    suite::take(&store, &events.batch());
    server.ask(&format!("DROP DATABASE {} SYNC", target.database));
    assert!(matches!(store.offsets(), Err(Error::Store(_))));
    assert!(store.offsets().unwrap().is_empty(), "all of the log is to be read again");
    suite::take(&store, &events.batch());
    assert_eq!(suite::sums(&store), expected(10));
}

#[test]
fn how_long_rows_are_kept_follows_the_configuration() {
    let server = Server::shared();
    let target = server.new_database();
    suite::take(&open(&target), &messages(0..10).batch());
    let ttl = |days: u64| {
        let keep = Duration::from_secs(days * 86_400);
        let store: Arc<dyn StatsStore> = Arc::new(ClickHouseStore::open(target.clone(), keep).unwrap());
        let found = server.ask(&format!(
            "SELECT count() FROM system.tables WHERE database = '{}' AND engine_full LIKE '%toIntervalDay({days})%'",
            target.database
        ));
        (found, suite::sums(&store).messages)
    };
    assert_eq!(ttl(4000), ("5".to_owned(), 10));
    assert_eq!(ttl(5000), ("5".to_owned(), 10));
}

#[test]
fn a_server_that_does_not_let_us_in_is_told_with_what_to_do() {
    let server = Server::shared();
    let target = Target { password: "wrong".into(), ..server.new_database() };
    let store = ClickHouseStore::open(target, KEEP).unwrap();
    let error = store.offsets().unwrap_err().to_string();
    assert!(error.contains("set user and password of [statistics]"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start_on(directory.path());
    let target = server.new_database();
    server.kill();
    let store = open(&target);
    let batch = messages(0..10).batch();
    let error = store.insert(&batch).unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
    server.start_again();
    assert_eq!(store.insert(&batch).unwrap(), Inserted::Taken);
    let before = everything(&store);
    server.kill();
    assert!(matches!(store.insert(&batch), Err(Error::Store(_))));
    server.start_again();
    suite::take(&store, &batch);
    assert!(everything(&store) == before);
}
