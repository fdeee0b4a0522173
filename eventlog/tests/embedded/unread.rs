//! Mail that was taken in is not dropped before its group came to it, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::{EventLog, ManualClock, NewRecord, Polled, Record};
use schemas::{Position, Timestamp, Topic};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn append(log: &EmbeddedLog, topic: Topic) -> Position {
    let record = NewRecord::new(topic, "", "key", "value").in_partition(1);
    log.append(vec![record]).await.expect("appends")[0]
}

async fn next(consumer: &mut dyn eventlog::Consumer) -> Vec<Record> {
    loop {
        if let Polled::Records(records) = consumer.poll(1, Duration::from_secs(5)).await.expect("polls") {
            return records;
        }
    }
}

#[tokio::test]
async fn accepted_mail_waits_for_a_scorer_that_was_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = ManualClock::starting_at(Timestamp(1_795_512_600_000));
    let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(directory.path()) };
    let log = EmbeddedLog::open(config, Arc::new(clock.clone())).expect("opens");
    append(&log, Topic::Accepted).await;
    let mut scorer = log.join("scorer", "0", &[Topic::Accepted]).await.expect("joins");
    let first = next(&mut *scorer).await[0].position;
    scorer.commit(vec![], &[(first.topic_partition(), first.offset + 1)]).await.expect("commits");
    scorer.leave().await;

    clock.advance(DAY);
    let mail = append(&log, Topic::Accepted).await;
    let reply = append(&log, Topic::Replies).await;
    clock.advance(30 * DAY);
    log.enforce_retention().await.expect("retention");
    assert!(log.read(first).await.expect("reads").is_none(), "what was read goes");
    assert!(log.read(mail).await.expect("reads").is_some(), "250 means durable");
    assert!(log.read(reply).await.expect("reads").is_none(), "other topics keep to their time");

    let mut scorer = log.join("scorer", "0", &[Topic::Accepted]).await.expect("joins");
    assert_eq!(next(&mut *scorer).await[0].position, mail);
    scorer.commit(vec![], &[(mail.topic_partition(), mail.offset + 1)]).await.expect("commits");
    log.enforce_retention().await.expect("retention");
    assert!(log.read(mail).await.expect("reads").is_none());
    log.close().await;
}
