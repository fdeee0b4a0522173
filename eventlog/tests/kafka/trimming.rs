//! What is old goes when it was read and nobody needs it any more, never before.

use std::time::Duration;

use eventlog::{Clock as _, Log, SystemClock};
use schemas::{Position, Timestamp, Topic};

use crate::cluster::{Cluster, fresh_prefix};
use crate::work::{after, input, join, open, take};

async fn trim(log: &Log, before: Timestamp, spared: &[Position]) {
    log.trim(Topic::Accepted, "copier", before, spared).await.expect("trimmed");
}

async fn is_there(log: &Log, position: Position) -> bool {
    log.read(position).await.expect("read").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_old_and_read_and_not_spared_goes() {
    let log = open(Cluster::shared().config(&fresh_prefix())).await;
    let mut positions = Vec::new();
    for value in 0..6 {
        positions.extend(log.append(vec![input(value)]).await.expect("appended"));
    }
    let tomorrow = SystemClock.now().plus(Duration::from_secs(86_400));
    // Nobody has read anything.
    trim(&log, tomorrow, &[]).await;
    assert!(is_there(&log, positions[0]).await);

    let mut member = join(&log, "1").await;
    let mut read = Vec::new();
    while read.len() < 4 {
        read.extend(take(&mut *member, 4 - read.len()).await.expect("records"));
    }
    member.commit(Vec::new(), &after(&read)).await.expect("committed");
    // Nothing is that old.
    trim(&log, SystemClock.now().minus(Duration::from_secs(86_400)), &[]).await;
    assert!(is_there(&log, positions[0]).await);

    let elsewhere = Position { partition: 1, offset: 0, ..positions[0] };
    trim(&log, tomorrow, &[positions[2], elsewhere]).await;
    assert_eq!(
        (is_there(&log, positions[1]).await, is_there(&log, positions[2]).await),
        (false, true),
        "what is spared, and all behind it, stays"
    );
    trim(&log, tomorrow, &[]).await;
    assert_eq!(
        (is_there(&log, positions[3]).await, is_there(&log, positions[4]).await),
        (false, true),
        "what was not read stays"
    );
    let rest = take(&mut *member, 10).await.expect("records");
    assert_eq!(rest[0].position, positions[4]);
    member.leave().await;
}
