//! Members that do not know that they were replaced.

use std::time::Duration;

use eventlog::{LogError, Polled};

use crate::cluster::{Cluster, fresh_prefix};
use crate::work::{after, input, join, open, output, outputs, take, text};

/// Two processes with the same slot, as after a pause long enough for somebody to start a replacement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_replaced_during_a_pause_can_write_nothing() {
    let prefix = fresh_prefix();
    let paused = open(Cluster::shared().config(&prefix)).await;
    let replacement = open(Cluster::shared().config(&prefix)).await;
    paused.append((0..4).map(input).collect()).await.expect("appends");
    let mut zombie = join(&paused, "slot").await;
    let polled = take(&mut *zombie, 2).await.expect("polls");
    let mut heir = join(&replacement, "slot").await;
    let again = take(&mut *heir, 10).await.expect("polls");
    assert_eq!(again.first().map(text).as_deref(), Some("0"), "the heir begins at the last commit");
    let refused = zombie.commit(vec![output("zombie")], &after(&polled)).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    heir.commit(again.iter().map(|r| output(&text(r))).collect(), &after(&again)).await.expect("commits");
    assert_eq!(outputs(&replacement, again.len()).await, again.iter().map(text).collect::<Vec<_>>());
}

/// One that only listens learns it, too, and before long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_member_that_only_polls_is_told() {
    let prefix = fresh_prefix();
    let log = open(Cluster::shared().config(&prefix)).await;
    log.append(vec![input(0)]).await.expect("appends");
    let mut zombie = join(&log, "slot").await;
    take(&mut *zombie, 1).await.expect("polls");
    let mut heir = join(&log, "slot").await;
    take(&mut *heir, 1).await.expect("polls");
    let told = async {
        loop {
            match zombie.poll(1, Duration::from_secs(1)).await {
                Err(LogError::Fenced { .. }) => return,
                other => assert!(matches!(other, Ok(Polled::Nothing | Polled::Revoked(_))), "{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("told in time");
    heir.commit(vec![output("heir")], &heir.positions()).await.expect("the heir is not disturbed");
}

/// A member of another slot that was given the partitions meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_the_group_gave_up_can_commit_nothing() {
    let prefix = fresh_prefix();
    let log = open(Cluster::shared().config(&prefix)).await;
    log.append((0..4).map(input).collect()).await.expect("appends");
    let mut first = join(&log, "a").await;
    let polled = take(&mut *first, 2).await.expect("polls");
    let mut second = join(&log, "b").await;
    // The group waits for `first` to poll; it does not, as if it hung, but its commit is still in time.
    assert!(matches!(second.poll(1, Duration::from_secs(1)).await, Ok(Polled::Nothing)));
    first.commit(vec![output("in time")], &after(&polled)).await.expect("nobody else has the partition yet");
    // Nothing it was given is open any more, so it gives up everything at once.
    let mut lost = Vec::new();
    while lost.is_empty() {
        if let Polled::Revoked(of) = first.poll(1, Duration::from_millis(50)).await.expect("polls") {
            lost = of;
        }
    }
    let refused = first.commit(vec![output("too late")], &after(&polled)).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    assert_eq!(outputs(&log, 1).await, ["in time"]);
}

/// A worker in the middle of its work when the group shares out anew: it may finish, and nobody does the work again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_hand_is_finished_before_a_partition_moves() {
    let prefix = fresh_prefix();
    let log = open(Cluster::shared().config(&prefix)).await;
    log.append((0..4).map(input).collect()).await.expect("appends");
    let mut first = join(&log, "b").await;
    let in_hand = take(&mut *first, 2).await.expect("polls");
    // Sorts before it, so the range of `first` changes.
    let mut second = join(&log, "a").await;
    let other = tokio::spawn(async move { take(&mut *second, 10).await });
    for _ in 0..10 {
        // It hears that it is asked, and is given nothing more.
        let polled = first.poll(10, Duration::from_millis(30)).await.expect("polls");
        match polled {
            Polled::Nothing => {}
            Polled::Records(more) if more[0].position.offset == 2 => {}
            other => panic!("{other:?} although work is in hand"),
        }
    }
    first
        .commit(in_hand.iter().map(|r| output(&text(r))).collect(), &after(&in_hand))
        .await
        .expect("in time");
    let mut taken_again = Vec::new();
    while !other.is_finished() && taken_again.is_empty() {
        if let Polled::Records(records) = first.poll(10, Duration::from_millis(50)).await.expect("polls") {
            taken_again = records;
        }
    }
    if taken_again.is_empty() {
        taken_again = other.await.expect("runs").expect("polls");
    }
    assert_eq!(taken_again.iter().map(text).collect::<Vec<_>>(), ["2", "3"]);
}
