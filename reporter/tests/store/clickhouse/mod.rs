//! ClickHouse: the suite, and what only it can get wrong: inserts whose fate is unknown, servers that go away, months
//! that are made again, schemas of other versions.

mod fate;
mod latency;
mod months;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use reporter::StatsStore;
use reporter::store::clickhouse::{ClickHouseStore, Target};
use reporter::store::query::{Group, LogFilter, LogLine, StatsFilter, StatsLine};
use schemas::attempt::Outcome;
use schemas::verdict::Classification;

use crate::events::{Events, attempt, judged, summary};
use crate::server::Server;
use crate::suite;

/// Longer than the tests' messages are old, whenever they run: these bear a date of their own.
const KEEP: Duration = Duration::from_secs(15 * 365 * 86_400);

fn open(target: &Target) -> Arc<dyn StatsStore> {
    Arc::new(ClickHouseStore::open(target.clone(), KEEP).unwrap())
}

/// Messages with one recipient each, delivered at the second try; every fifth is spam.
fn messages(numbers: std::ops::Range<u32>) -> Events {
    let mut events = Events::default();
    for number in numbers {
        let is_spam = number % 5 == 0;
        let message = summary(number, if is_spam { Classification::Spam } else { Classification::Clean });
        events.verdict(&judged(&message, &["a@one.example"]));
        if !is_spam {
            events.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, "a@one.example")]));
            events.attempt(&attempt(&message, 2, Outcome::Delivered, &[(0, "a@one.example")]));
        }
    }
    events
}

fn expected(count: u64) -> StatsLine {
    let quarantined = count.div_ceil(5);
    StatsLine {
        group: "customer.example".into(),
        messages: count,
        recipients: count,
        bytes: count * 10_000,
        quarantined,
        delivered: count - quarantined,
        deferrals: count - quarantined,
        ..StatsLine::default()
    }
}

/// Everything that the product can ask. Compare it with `==`: nobody reads a difference of so much.
fn everything(store: &Arc<dyn StatsStore>) -> (Vec<LogLine>, Vec<Vec<StatsLine>>) {
    let groups = [Group::Identity, Group::Destination, Group::Classification, Group::Hour];
    let sums = groups.map(|group| store.stats(&StatsFilter::default(), group).unwrap()).to_vec();
    let all = LogFilter { own: true, limit: Some(100_000), ..LogFilter::default() };
    (store.log(&all).unwrap(), sums)
}

#[test]
fn follows_the_rules_of_every_store() {
    let server = Server::shared();
    suite::all(&|| open(&server.new_database()), 12);
}
