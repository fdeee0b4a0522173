//! How fast the stores take events, beside each other: `cargo bench -p reporter`. Each message is a verdict and one or
//! two attempts, parsed from JSON as they stand in the log; a row is one of them about one recipient. SQLite takes batches
//! of 200 records, as under load, into a file on disk; ClickHouse, a real server on the same machine, those of a backlog.

#![allow(clippy::unwrap_used)] // a bench that cannot go on must fail

#[path = "../tests/store/events.rs"]
#[allow(dead_code)] // the store's suite uses the rest
mod events;
#[path = "../tests/store/server.rs"]
#[allow(dead_code)] // the store's tests use the rest
mod server;

use std::time::Duration;
use std::time::Instant;

use reporter::StatsStore;
use reporter::rows;
use reporter::store::Inserted;
use reporter::store::clickhouse::ClickHouseStore;
use reporter::store::sqlite::SqliteStore;
use schemas::attempt::Outcome;
use schemas::verdict::{Classification, Identity};
use schemas::{Position, Topic, UserId};

const MESSAGES: u32 = 300_000;
const SQLITE_BATCH: usize = 200;
const CLICKHOUSE_BATCH: usize = 50_000;
const KEEP: Duration = Duration::from_secs(15 * 365 * 86_400);

/// A site with 40 users, 2,000 identities and 3,000 destinations; every tenth message is deferred once.
fn log_of(numbers: std::ops::Range<u32>) -> Vec<(Position, Vec<u8>)> {
    // Every tenth message has two attempts.
    let (mut verdicts, mut attempts) = (u64::from(numbers.start), u64::from(numbers.start) * 11 / 10);
    let mut records = Vec::new();
    for number in numbers {
        let mut message = events::summary(number, Classification::Clean);
        message.user = UserId(format!("192.0.2.{}/32", number % 40));
        message.identity = Identity(format!("account{}@customer.example", number * 7 % 2000));
        // 300 a second
        message.accepted_at = schemas::Timestamp(events::START.0 + i64::from(number) * 1000 / 300);
        message.id = schemas::MessageId::derived(&number.to_string(), message.accepted_at);
        let recipient = format!("person{}@destination{}.example", number % 50_000, number * 13 % 3000);
        let at = Position { topic: Topic::Verdicts, partition: 0, offset: verdicts };
        verdicts += 1;
        records.push((at, serde_json::to_vec(&events::judged(&message, &[&recipient])).unwrap()));
        let tries = if number % 10 == 0 { 2 } else { 1 };
        for attempt in 1..=tries {
            let outcome = if attempt < tries { Outcome::Deferred } else { Outcome::Delivered };
            let event = events::attempt(&message, attempt, outcome, &[(0, &recipient)]);
            let at = Position { topic: Topic::Attempts, partition: 0, offset: attempts };
            attempts += 1;
            records.push((at, serde_json::to_vec(&event).unwrap()));
        }
    }
    records
}

/// Time on a processor of this thread, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn measure(name: &str, store: &dyn StatsStore, size: usize) {
    println!("{name}, batches of {size}");
    println!("messages so far   messages/s   rows/s   CPU us/message here: parse   insert");
    let step = MESSAGES / 6;
    for first in (0..MESSAGES).step_by(step as usize) {
        let records = log_of(first..first + step);
        let (began, mut parsing, mut inserting) = (Instant::now(), 0.0, 0.0);
        for chunk in records.chunks(size) {
            let from = cpu();
            let changes: Vec<_> =
                chunk.iter().filter_map(|(at, value)| rows::change_of(*at, value).unwrap()).collect();
            let parsed = cpu();
            let batch = events::batch(changes);
            assert_eq!(store.insert(&batch).unwrap(), Inserted::Taken);
            parsing += parsed - from;
            inserting += cpu() - parsed;
        }
        let (per_second, per_message) = (
            |count: usize| count as f64 / began.elapsed().as_secs_f64(),
            |seconds: f64| seconds * 1e6 / f64::from(step),
        );
        println!(
            "{:>15}   {:>10.0}   {:>6.0}   {:>26.1}   {:>6.1}",
            first + step,
            per_second(step as usize),
            per_second(records.len()),
            per_message(parsing),
            per_message(inserting),
        );
    }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("statistics.sqlite");
    measure("SQLite", &SqliteStore::open(&file).unwrap(), SQLITE_BATCH);
    println!("file: {} bytes/message\n", std::fs::metadata(&file).unwrap().len() / u64::from(MESSAGES));

    let server = server::Server::start_on(&directory.path().join("clickhouse"));
    let target = server.new_database();
    let store = ClickHouseStore::open(target.clone(), KEEP).unwrap();
    measure("ClickHouse", &store, CLICKHOUSE_BATCH);
    let bytes = server.ask(&format!(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{}'",
        target.database
    ));
    // Merges included, as far as they went.
    println!("CPU us/message of the server: {:.1}", server.cpu() * 1e6 / f64::from(MESSAGES));
    println!("disk: {} bytes/message", bytes.parse::<u64>().unwrap() / u64::from(MESSAGES));
}
