//! How fast the SQLite store takes events: `cargo bench -p reporter`. Each message is a verdict and one or two attempts,
//! parsed from JSON as they stand in the log, in batches of 200 as under load, into a file on disk.

#![allow(clippy::unwrap_used)] // a bench that cannot go on must fail

#[path = "../tests/store/events.rs"]
#[allow(dead_code)] // the store's suite uses the rest
mod events;

use std::time::Instant;

use reporter::StatsStore;
use reporter::rows;
use reporter::store::Inserted;
use reporter::store::sqlite::SqliteStore;
use schemas::attempt::Outcome;
use schemas::verdict::{Classification, Identity};
use schemas::{Position, Topic, UserId};

const MESSAGES: u32 = 300_000;
const BATCH: usize = 200;

/// A site with 40 users, 2,000 identities and 3,000 destinations; every tenth message is deferred once.
fn log_of(numbers: std::ops::Range<u32>) -> Vec<(Position, Vec<u8>)> {
    let (mut verdicts, mut attempts) = (u64::from(numbers.start), 2 * u64::from(numbers.start));
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

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("statistics.sqlite")).unwrap();
    println!("messages so far   messages/s   CPU us/message: parse   insert");
    let step = MESSAGES / 6;
    for first in (0..MESSAGES).step_by(step as usize) {
        let records = log_of(first..first + step);
        let (began, mut parsing, mut inserting) = (Instant::now(), 0.0, 0.0);
        for chunk in records.chunks(BATCH) {
            let from = cpu();
            let changes: Vec<_> =
                chunk.iter().filter_map(|(at, value)| rows::change_of(*at, value).unwrap()).collect();
            let parsed = cpu();
            let mut batch = events::batch(changes);
            // The offsets here are only counted; nothing is to be behind.
            batch.covered.iter_mut().for_each(|covered| covered.from = 0);
            assert_eq!(store.insert(&batch).unwrap(), Inserted::Taken);
            parsing += parsed - from;
            inserting += cpu() - parsed;
        }
        let per_message = |seconds: f64| seconds * 1e6 / f64::from(step);
        println!(
            "{:>15}   {:>10.0}   {:>21.1}   {:>6.1}",
            first + step,
            f64::from(step) / began.elapsed().as_secs_f64(),
            per_message(parsing),
            per_message(inserting),
        );
    }
    let bytes = std::fs::metadata(directory.path().join("statistics.sqlite")).unwrap().len();
    println!("file: {} bytes/message", bytes / u64::from(MESSAGES));
}
