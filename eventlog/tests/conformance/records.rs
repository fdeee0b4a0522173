//! Appending and reading.

use std::time::Duration;

use bytes::Bytes;
use eventlog::{Log, LogError, NewRecord, TableEvent, Tail, TailFrom};
use schemas::topics::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use schemas::{Position, Topic};

use crate::engine::{Engine, PATIENCE, record, text};

async fn read_text(log: &Log, position: Position) -> Option<String> {
    log.read(position).await.expect("reads").map(|record| text(&record))
}

pub async fn an_append_is_durable_when_it_resolves(engine: &mut dyn Engine, log: Log) {
    let written = log
        .append(vec![record(Topic::Accepted, "a", "first"), record(Topic::Senders, "a", "second")])
        .await
        .expect("appends");
    let log = engine.reopen(log).await;
    assert_eq!(read_text(&log, written[0]).await.as_deref(), Some("first"));
    assert_eq!(read_text(&log, written[1]).await.as_deref(), Some("second"));
    let third = log.append(vec![record(Topic::Accepted, "a", "third")]).await.expect("appends");
    assert_eq!(third[0].partition, written[0].partition);
    assert!(third[0].offset > written[0].offset, "offsets go on after a restart");
    let nothing = log.append(vec![]).await.expect("an empty append is done at once");
    assert!(nothing.is_empty());
}

pub async fn the_ends_lie_between_what_was_written_and_what_comes(_: &mut dyn Engine, log: Log) {
    let append = async |value: &'static str| {
        let records = (0..4).map(|n| record(Topic::Accepted, "k", value).in_partition(n)).collect();
        log.append(records).await.expect("appends")
    };
    assert_eq!(log.ends(Topic::Accepted).await.expect("ends"), [0; 4]);
    let before = append("before").await;
    let ends = log.ends(Topic::Accepted).await.expect("ends");
    let after = append("after").await;
    for ((before, end), after) in before.iter().zip(&ends).zip(&after) {
        assert!(before.offset < *end && *end <= after.offset, "{before} {end} {after}");
    }
    assert_eq!(log.ends(Topic::Settings).await.expect("ends"), [0]);
}

pub async fn a_table_of_a_topic_kept_by_time_gives_every_record(_: &mut dyn Engine, log: Log) {
    for number in 0..20 {
        let value = number.to_string();
        log.append(vec![record(Topic::Verdicts, "one key", value).in_partition(2)]).await.expect("appends");
    }
    let mut table = log.table(Topic::Verdicts, Some(&[2])).await.expect("a table");
    let mut seen: Vec<u32> = Vec::new();
    loop {
        for event in tokio::time::timeout(PATIENCE, table.next(7)).await.expect("in time").expect("reads") {
            match event {
                TableEvent::Row(record) => seen.push(text(&record).parse().expect("a number")),
                TableEvent::CaughtUp => return assert_eq!(seen, (0..20).collect::<Vec<_>>()),
            }
        }
    }
}

pub async fn order_holds_per_partition(_: &mut dyn Engine, log: Log) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let log = log.clone();
        writers.spawn(async move {
            let mut last = None;
            for number in 0..50 {
                let value = format!("{writer} {number}");
                let record = record(Topic::Accepted, "k", value).in_partition(1);
                let position = log.append(vec![record]).await.expect("appends")[0];
                assert!(last < Some(position.offset), "offsets grow in the order of writing");
                last = Some(position.offset);
            }
        });
    }
    let mut tail = log.tail(Topic::Accepted, 1, TailFrom::Offset(0)).await.expect("tails");
    let mut next = [0; 16];
    let mut last = None;
    let mut seen = 0;
    while seen < 16 * 50 {
        let records = tokio::time::timeout(PATIENCE, tail.next(7)).await.expect("in time").expect("reads");
        assert!(!records.is_empty() && records.len() <= 7);
        for record in records {
            assert!(last < Some(record.position.offset));
            last = Some(record.position.offset);
            let value = text(&record);
            let (writer, number) = value.split_once(' ').expect("two numbers");
            let writer: usize = writer.parse().expect("a number");
            assert_eq!(number.parse::<usize>().expect("a number"), next[writer]);
            next[writer] += 1;
            seen += 1;
        }
    }
    while let Some(done) = writers.join_next().await {
        done.expect("writes");
    }
}

pub async fn a_key_goes_where_kafka_would_put_it(_: &mut dyn Engine, log: Log) {
    assert_eq!(log.partitions(Topic::Accepted), 4);
    assert_eq!(log.partitions(Topic::Settings), 1);
    for by in ["21", "foobar", "a-little-bit-long-string"] {
        let record = NewRecord::new(Topic::Accepted, by, "key", "value");
        let position = log.append(vec![record]).await.expect("appends")[0];
        assert_eq!(position.partition, log.partition_of(Topic::Accepted, by.as_bytes()));
        assert_eq!(position.partition, log.partition_of(Topic::Senders, by.as_bytes()));
        let read = log.read(position).await.expect("reads").expect("a record");
        assert_eq!(read.key, "key");
    }
}

pub async fn sizes_at_the_limit_pass_and_one_byte_over_fails(engine: &mut dyn Engine, log: Log) {
    let value = Bytes::from(vec![7; MAX_VALUE_BYTES]);
    let key = Bytes::from(vec![b'k'; MAX_KEY_BYTES]);
    let largest = NewRecord::new(Topic::Bodies, "m", key.clone(), value.clone());
    let written = log.append(vec![largest.clone(), largest]).await.expect("both pass");
    for (what, key, value) in [
        ("value", key.clone(), vec![7; MAX_VALUE_BYTES + 1]),
        ("key", vec![b'k'; MAX_KEY_BYTES + 1].into(), vec![]),
    ] {
        let small = record(Topic::Bodies, "m", "small");
        let over = NewRecord::new(Topic::Bodies, "m", key, value);
        let error = log.append(vec![small, over]).await.expect_err("one byte over");
        assert!(
            matches!(&error, LogError::TooLarge { what: w, size, max, .. } if *w == what && *size == max + 1)
        );
    }
    let log = engine.reopen(log).await;
    for position in &written {
        let read = log.read(*position).await.expect("reads").expect("a record");
        assert!(read.key == key && read.value.as_ref() == Some(&value));
    }
    let mut tail = log.tail(Topic::Bodies, written[0].partition, TailFrom::Offset(0)).await.expect("tails");
    let mut count = 0;
    while count < 2 {
        count += tail.next(10).await.expect("reads").len();
    }
    let more = tokio::time::timeout(Duration::from_millis(100), tail.next(10)).await;
    assert!(more.is_err(), "nothing of a refused batch was written");
}

pub async fn ten_thousand_records_of_10_kib(engine: &mut dyn Engine, log: Log) {
    const COUNT: u32 = 10_000;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..20 {
        let log = log.clone();
        writers.spawn(async move {
            for number in 0..COUNT / 20 {
                let id = writer * (COUNT / 20) + number;
                log.append(vec![record(Topic::Accepted, &id.to_string(), body(id))]).await.expect("appends");
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("writes");
    }
    let log = engine.reopen(log).await;
    let mut follower = crate::engine::Follower::join(&log, "all", "0", &[Topic::Accepted]).await;
    let mut seen = vec![false; COUNT as usize];
    for record in follower.take(COUNT as usize).await {
        let id: u32 = crate::engine::key(&record).parse().expect("a number");
        assert!(!std::mem::replace(&mut seen[id as usize], true), "{id} came twice");
        assert_eq!(record.value.expect("a value"), body(id));
    }
    assert!(seen.into_iter().all(|seen| seen));
}

fn body(id: u32) -> Bytes {
    id.to_be_bytes().repeat(2560).into()
}

pub async fn reads_at_a_position(engine: &mut dyn Engine, log: Log) {
    let written = log.append(vec![record(Topic::Released, "a", "one")]).await.expect("appends")[0];
    there_and_never_there(&log, written).await;
    there_and_never_there(&engine.reopen(log).await, written).await;
}

async fn there_and_never_there(log: &Log, written: Position) {
    assert_eq!(read_text(log, written).await.as_deref(), Some("one"));
    for offset in [written.offset + 1, written.offset + 1_000_000, u64::MAX] {
        assert!(log.read(Position { offset, ..written }).await.expect("reads").is_none());
    }
}

pub async fn a_tail_begins_where_it_is_told(engine: &mut dyn Engine, log: Log) {
    let append = async |log: &Log, value: &str| {
        let record = record(Topic::Replies, "r", value.to_owned()).in_partition(2);
        log.append(vec![record]).await.expect("appends")[0]
    };
    let first = append(&log, "first").await;
    append(&log, "second").await;
    let log = engine.reopen(log).await;
    let mut from_end = log.tail(Topic::Replies, 2, TailFrom::End).await.expect("tails");
    let mut from_first =
        log.tail(Topic::Replies, 2, TailFrom::Offset(first.offset + 1)).await.expect("tails");
    let waiting = tokio::spawn(async move { (from_end.next(10).await, from_end) });
    append(&log, "third").await;
    let (records, _) = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("runs");
    assert_eq!(records.expect("reads").iter().map(text).collect::<Vec<_>>(), ["third"]);
    let mut rest = Vec::new();
    while rest.len() < 2 {
        rest.extend(from_first.next(1).await.expect("reads").iter().map(text));
    }
    assert_eq!(rest, ["second", "third"]);
}

pub async fn who_tails_hears_what_is_announced(_: &mut dyn Engine, log: Log) {
    let mut tail = log.tail(Topic::Replies, 2, TailFrom::End).await.expect("a tail");
    let announced = |word: &'static str| vec![record(Topic::Replies, "k", word).in_partition(2)];
    // Where announcements are records, a tail may begin a moment later than it was opened.
    let hears = async |tail: &mut Box<dyn Tail>, word: &'static str| {
        let hears = async {
            loop {
                log.announce(announced(word)).await.expect("announces");
                let soon = tokio::time::timeout(Duration::from_millis(500), tail.next(10)).await;
                let Ok(heard) = soon else { continue };
                if heard.expect("records").iter().any(|record| text(record) == word) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, hears).await.expect("hears it in time");
    };
    hears(&mut tail, "first").await;
    // Records and announcements do not get in each other's way.
    log.append(vec![record(Topic::Replies, "k", "written").in_partition(2)]).await.expect("appends");
    let written =
        async { while !tail.next(10).await.expect("records").iter().any(|r| text(r) == "written") {} };
    tokio::time::timeout(PATIENCE, written).await.expect("the record comes");
    hears(&mut tail, "second").await;
    let too_large = record(Topic::Replies, "k", vec![b'x'; schemas::topics::MAX_VALUE_BYTES + 1]);
    assert!(matches!(log.announce(vec![too_large]).await, Err(LogError::TooLarge { .. })));
    let nowhere = record(Topic::Replies, "k", "x").in_partition(99);
    assert!(matches!(log.announce(vec![nowhere]).await, Err(LogError::NoSuchPartition { .. })));
    log.announce(vec![record(Topic::Replies, "k", "nobody hears it").in_partition(3)])
        .await
        .expect("is lost");
}

/// Tables and tails that are asked with very little patience, again and again, give everything all the same.
pub async fn a_dropped_read_has_passed_over_nothing(_: &mut dyn Engine, log: Log) {
    const COUNT: u64 = 300;
    let mut tail = log.tail(Topic::Senders, 0, TailFrom::Offset(0)).await.expect("tails");
    let mut table = log.table(Topic::Senders, Some(&[0])).await.expect("opens");
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        for n in 0..COUNT {
            let row = record(Topic::Senders, &n.to_string(), n.to_string()).in_partition(0);
            writer.append(vec![row]).await.expect("appends");
        }
    });
    let (mut tailed, mut rows, mut attempt) = (Vec::new(), Vec::new(), 0);
    while tailed.len() < COUNT as usize || rows.len() < COUNT as usize {
        attempt += 1;
        let patience = Duration::from_micros(attempt % 4 * 700);
        if let Ok(records) = tokio::time::timeout(patience, tail.next(3)).await {
            tailed.extend(records.expect("reads").iter().map(text));
        }
        if let Ok(events) = tokio::time::timeout(patience, table.next(3)).await {
            rows.extend(events.expect("reads").into_iter().filter_map(|event| match event {
                TableEvent::Row(record) => Some(text(&record)),
                TableEvent::CaughtUp => None,
            }));
        }
    }
    writing.await.expect("writes");
    let all: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    assert_eq!(tailed, all);
    assert_eq!(rows, all);
}

pub async fn no_partition_no_record(_: &mut dyn Engine, log: Log) {
    let record = record(Topic::Accepted, "a", "b");
    let both = vec![record.clone(), record.in_partition(4)];
    let error = log.append(both).await.expect_err("there is no partition 4");
    assert!(matches!(error, LogError::NoSuchPartition { partition: 4, partitions: 4, .. }));
    assert!(matches!(
        log.tail(Topic::Settings, 1, TailFrom::End).await,
        Err(LogError::NoSuchPartition { .. })
    ));
    assert!(matches!(log.table(Topic::Senders, Some(&[0, 9])).await, Err(LogError::NoSuchPartition { .. })));
    let partition = log.partition_of(Topic::Accepted, b"a");
    let nothing = log.read(Position { topic: Topic::Accepted, partition, offset: 0 }).await.expect("reads");
    assert!(nothing.is_none(), "nothing of a refused batch was written");
}

pub async fn a_closed_log_says_so(_: &mut dyn Engine, log: Log) {
    let written = log.append(vec![record(Topic::Senders, "a", "b")]).await.expect("appends")[0];
    let mut consumer = log.join("g", "0", &[Topic::Accepted]).await.expect("joins");
    let mut table = log.table(Topic::Senders, None).await.expect("opens");
    let mut tail = log.tail(Topic::Senders, 0, TailFrom::End).await.expect("tails");
    let tailing = tokio::spawn(async move { tail.next(1).await.map(|_| ()) });
    log.close().await;
    log.close().await;
    let closed =
        |result: Result<(), LogError>| assert!(matches!(result, Err(LogError::Closed)), "{result:?}");
    closed(log.append(vec![record(Topic::Senders, "a", "c")]).await.map(|_| ()));
    closed(log.read(written).await.map(|_| ()));
    closed(log.accepting());
    closed(log.lag("g", Topic::Accepted).await.map(|_| ()));
    closed(log.join("g", "1", &[Topic::Accepted]).await.map(|_| ()));
    closed(consumer.poll(1, Duration::from_secs(5)).await.map(|_| ()));
    closed(consumer.commit(vec![], &[]).await.map(|_| ()));
    closed(table.next(1).await.map(|_| ()));
    closed(tokio::time::timeout(PATIENCE, tailing).await.expect("in time").expect("runs"));
}
