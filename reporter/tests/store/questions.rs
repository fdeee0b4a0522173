//! Every question of docs/statistics.md, asked of both stores: the same answers, and none of them empty.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reporter::StatsStore;
use reporter::store::clickhouse::ClickHouseStore;
use reporter::store::sqlite::SqliteStore;
use rusqlite::types::ValueRef;
use schemas::attempt::Outcome;
use schemas::verdict::{Classification, Identity};
use schemas::{Domain, UserId};

use crate::events::{Events, attempt, judged, released, summary};
use crate::server::Server;
use crate::suite;

/// Three users of two domains, some of them spammers, to three destinations with all that can happen there.
fn a_day() -> Events {
    let mut events = Events::default();
    for number in 0..240u32 {
        let is_spam = number % 7 == 0;
        let mut message =
            summary(number * 60, if is_spam { Classification::Spam } else { Classification::Clean });
        message.user = UserId(format!("192.0.2.{}/32", number % 3));
        message.domain = Domain::parse(["customer.example", "other.example"][(number % 2) as usize]).unwrap();
        message.identity = Identity(format!("account{}@customer.example", number % 11));
        message.header_from =
            (number % 5 != 0).then(|| Domain::parse(&format!("from{}.example", number % 13)).unwrap());
        let other = format!("b@{}.example", ["two", "three"][(number % 2) as usize]);
        let recipients = ["a@one.example", other.as_str()];
        events.verdict(&judged(&message, &recipients));
        if is_spam && number % 14 == 0 {
            continue;
        }
        if is_spam {
            events.verdict(&released(&message));
        }
        events.attempt(&attempt(&message, 1, Outcome::Deferred, &[(0, recipients[0]), (1, recipients[1])]));
        let first = if number % 9 == 0 { Outcome::Failed } else { Outcome::Delivered };
        events.attempt(&attempt(&message, 2 + number % 3, first, &[(0, recipients[0])]));
        if number % 4 != 0 {
            events.attempt(&attempt(&message, 9, Outcome::Delivered, &[(1, recipients[1])]));
        }
    }
    events
}

/// What stands in the document under each heading, in a block of this kind.
fn questions(kind: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/statistics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut heading, mut found) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("### ") {
            heading = text.to_owned();
        } else if line == format!("```{kind}") {
            let sql: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((heading.clone(), sql.join("\n")));
        }
    }
    found
}

fn on_sqlite(connection: &rusqlite::Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut answer = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let text = |column| match row.get_ref(column).unwrap() {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => format!("{number}"),
            ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8(text.to_vec()).unwrap(),
        };
        answer.push((0..columns).map(text).collect());
    }
    answer
}

fn on_clickhouse(server: &Server, database: &str, sql: &str) -> Vec<Vec<String>> {
    let text = server.ask_in(database, sql);
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn both_stores_give_the_same_answers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("statistics.sqlite");
    let server = Server::shared();
    let target = server.new_database();
    let keep = Duration::from_secs(15 * 365 * 86_400);
    let stores: [Arc<dyn StatsStore>; 2] = [
        Arc::new(SqliteStore::open(&file).unwrap()),
        Arc::new(ClickHouseStore::open(target.clone(), keep).unwrap()),
    ];
    for store in &stores {
        suite::take(store, &a_day().batch());
    }
    let connection = rusqlite::Connection::open(&file).unwrap();
    let questions = questions("sql");
    assert!(questions.len() >= 10, "the questions are found");
    for (question, sql) in questions {
        let (here, there) = (on_sqlite(&connection, &sql), on_clickhouse(server, &target.database, &sql));
        assert!(!here.is_empty(), "{question}: no answer");
        assert_eq!(here, there, "{question}");
    }
}

#[test]
fn what_only_clickhouse_can_say() {
    let server = Server::shared();
    let target = server.new_database();
    let keep = Duration::from_secs(15 * 365 * 86_400);
    let store: Arc<dyn StatsStore> = Arc::new(ClickHouseStore::open(target.clone(), keep).unwrap());
    suite::take(&store, &a_day().batch());
    let questions = questions("clickhouse");
    assert!(!questions.is_empty());
    for (question, sql) in questions {
        assert!(!on_clickhouse(server, &target.database, &sql).is_empty(), "{question}: no answer");
    }
}
