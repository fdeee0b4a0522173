//! ClickHouse: the suite, and what only it can get wrong: inserts whose fate is unknown, servers that go away, months
//! that are made again.

use std::sync::Arc;
use std::time::Duration;

use reporter::store::clickhouse::{ClickHouseStore, Target};
use reporter::{Error, StatsStore};
use schemas::attempt::Outcome;
use schemas::verdict::Classification;

use crate::events::{Events, attempt, judged, released, summary};
use crate::server::Server;
use crate::suite;

/// Longer than the tests' messages are old, whenever they run: they bear a date of their own.
const KEEP: Duration = Duration::from_secs(15 * 365 * 86_400);

fn open(target: &Target) -> Arc<dyn StatsStore> {
    Arc::new(ClickHouseStore::open(target.clone(), KEEP).unwrap())
}

#[test]
fn follows_the_rules_of_every_store() {
    let server = Server::shared();
    suite::all(&|| open(&server.new_database()), 12);
}
