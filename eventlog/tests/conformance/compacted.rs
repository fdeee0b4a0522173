//! Compacted topics: the newest of each key, then what is written.

use std::collections::BTreeMap;
use std::time::Duration;

use eventlog::{Log, NewRecord, Table, TableEvent};
use schemas::Topic;

use crate::engine::{Engine, PATIENCE, key, record, text};

type Rows = BTreeMap<String, String>;

fn row(key: &str, value: &str) -> NewRecord {
    record(Topic::Senders, key, value.to_owned())
}

fn gone(key: &str) -> NewRecord {
    NewRecord::tombstone(Topic::Senders, key.to_owned(), key.to_owned())
}

async fn next(table: &mut dyn Table, max: usize) -> Vec<TableEvent> {
    let events = tokio::time::timeout(PATIENCE, table.next(max)).await.expect("in time").expect("reads");
    assert!(!events.is_empty() && events.len() <= max);
    events
}

fn apply(rows: &mut Rows, events: &[TableEvent]) -> usize {
    let mut caught_up = 0;
    for event in events {
        match event {
            TableEvent::Row(record) if record.value.is_some() => {
                rows.insert(key(record), text(record));
            }
            TableEvent::Row(record) => {
                rows.remove(&key(record));
            }
            TableEvent::CaughtUp => caught_up += 1,
        }
    }
    caught_up
}

/// The rows as they stand when the table is caught up.
async fn replayed(log: &Log, topic: Topic) -> (Rows, Box<dyn Table>) {
    let mut table = log.table(topic, None).await.expect("opens");
    let mut rows = Rows::new();
    while apply(&mut rows, &next(&mut *table, 50).await) == 0 {}
    (rows, table)
}

fn rows<const N: usize>(rows: [(&str, &str); N]) -> Rows {
    rows.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub async fn a_table_gives_the_newest_of_each_key_then_follows(engine: &mut dyn Engine, log: Log) {
    log.append(vec![row("a", "1"), row("b", "1"), row("a", "2")]).await.expect("appends");
    log.append(vec![row("a", "3"), row("c", "1")]).await.expect("appends");
    let (found, mut table) = replayed(&log, Topic::Senders).await;
    assert_eq!(found, rows([("a", "3"), ("b", "1"), ("c", "1")]));
    let waiting = tokio::spawn(async move { next(&mut *table, 10).await });
    log.append(vec![row("b", "2")]).await.expect("appends");
    let mut followed = Rows::new();
    assert_eq!(apply(&mut followed, &waiting.await.expect("runs")), 0, "caught up comes once");
    assert_eq!(followed, rows([("b", "2")]));
    let log = engine.reopen(log).await;
    assert_eq!(replayed(&log, Topic::Senders).await.0, rows([("a", "3"), ("b", "2"), ("c", "1")]));
}

pub async fn caught_up_comes_once_even_for_nothing(_: &mut dyn Engine, log: Log) {
    for topic in [Topic::Settings, Topic::Queue] {
        let (found, mut table) = replayed(&log, topic).await;
        assert!(found.is_empty());
        let more = tokio::time::timeout(Duration::from_millis(100), table.next(10)).await;
        assert!(more.is_err(), "nothing comes until something is written");
    }
}

pub async fn a_tombstone_removes_its_key(engine: &mut dyn Engine, log: Log) {
    log.append(vec![row("a", "1"), row("b", "1")]).await.expect("appends");
    let (_, mut table) = replayed(&log, Topic::Senders).await;
    log.append(vec![gone("a"), gone("never")]).await.expect("appends");
    let mut followed = rows([("a", "1"), ("b", "1")]);
    while followed.contains_key("a") {
        assert_eq!(apply(&mut followed, &next(&mut *table, 10).await), 0);
    }
    assert_eq!(replayed(&log, Topic::Senders).await.0, rows([("b", "1")]));
    let last = log.append(vec![row("z", "1"), gone("z"), row("z", "2"), gone("z")]).await.expect("appends");
    engine.pass(Duration::from_secs(30 * 24 * 3600)).await;
    let log = engine.reopen(log).await;
    assert_eq!(replayed(&log, Topic::Senders).await.0, rows([("b", "1")]));
    let back = log.append(vec![row("z", "3")]).await.expect("appends")[0];
    assert!(back.offset > last[3].offset, "offsets grow although the last row is gone");
    assert_eq!(replayed(&log, Topic::Senders).await.0, rows([("b", "1"), ("z", "3")]));
}

pub async fn rows_come_in_order_of_offset(_: &mut dyn Engine, log: Log) {
    let settings = |n: usize| NewRecord::new(Topic::Settings, "s", format!("k{}", n * 7 % 40), n.to_string());
    log.append((0..200).map(settings).collect()).await.expect("appends");
    let mut table = log.table(Topic::Settings, None).await.expect("opens");
    let mut last = None;
    let mut written = 200;
    loop {
        let mut caught_up = false;
        for event in next(&mut *table, 7).await {
            match event {
                TableEvent::Row(record) => {
                    assert!(last < Some(record.position.offset));
                    last = Some(record.position.offset);
                }
                TableEvent::CaughtUp => caught_up = true,
            }
        }
        if caught_up {
            break;
        }
        // Writing goes on meanwhile, over rows not given yet.
        if written < 230 {
            log.append(vec![settings(written)]).await.expect("appends");
            written += 1;
        }
    }
    while last < Some(written as u64 - 1) {
        for event in next(&mut *table, 7).await {
            let TableEvent::Row(record) = event else { panic!("caught up twice") };
            assert!(last < Some(record.position.offset));
            last = Some(record.position.offset);
        }
    }
}

pub async fn a_table_of_some_partitions(_: &mut dyn Engine, log: Log) {
    let records = (0..4).map(|n| row(&format!("k{n}"), "v").in_partition(n)).collect();
    log.append(records).await.expect("appends");
    let mut table = log.table(Topic::Senders, Some(&[1, 3])).await.expect("opens");
    let mut found = Rows::new();
    while apply(&mut found, &next(&mut *table, 1).await) == 0 {}
    assert_eq!(found, rows([("k1", "v"), ("k3", "v")]));
}

/// A table that is read slowly while every key is written over: when it says that it is caught up, no key that was there
/// when it was opened is missing.
pub async fn writing_while_replaying_leaves_no_key_out(_: &mut dyn Engine, log: Log) {
    const KEYS: usize = 300;
    let write = |round: usize| (0..KEYS).map(|n| row(&format!("k{n}"), &round.to_string())).collect();
    log.append(write(0)).await.expect("appends");
    let mut table = log.table(Topic::Senders, None).await.expect("opens");
    let mut found = Rows::new();
    let mut round = 0;
    while apply(&mut found, &next(&mut *table, 40).await) == 0 {
        round += 1;
        log.append(write(round)).await.expect("appends");
    }
    assert_eq!(found.len(), KEYS);
    while found.values().any(|value| *value != round.to_string()) {
        assert_eq!(apply(&mut found, &next(&mut *table, 1000).await), 0);
    }
}

pub async fn random_writes_and_restarts_agree_with_a_map(engine: &mut dyn Engine, mut log: Log) {
    let mut state = 99_u32;
    let mut dice = move |sides: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % sides
    };
    let mut expected = Rows::new();
    let (mut followed, mut table) = replayed(&log, Topic::Queue).await;
    let mut seconds = 0;
    for step in 0..300 {
        let mut batch = Vec::new();
        for _ in 0..=dice(6) {
            let key = format!("key{}", dice(40));
            if dice(3) == 0 {
                expected.remove(&key);
                batch.push(NewRecord::tombstone(Topic::Queue, key.clone(), key));
            } else {
                let value = format!("{step} {}", "x".repeat(dice(3000) as usize));
                expected.insert(key.clone(), value.clone());
                batch.push(record(Topic::Queue, &key, value));
            }
        }
        log.append(batch).await.expect("appends");
        seconds += u64::from(dice(7200));
        match dice(30) {
            0 => engine.pass(Duration::from_secs(std::mem::take(&mut seconds))).await,
            1 => {
                drop(table);
                log = engine.reopen(log).await;
                (followed, table) = replayed(&log, Topic::Queue).await;
                assert_eq!(followed, expected);
            }
            _ => {}
        }
    }
    while followed != expected {
        apply(&mut followed, &next(&mut *table, 100).await);
    }
    assert_eq!(replayed(&log, Topic::Queue).await.0, expected);
}
