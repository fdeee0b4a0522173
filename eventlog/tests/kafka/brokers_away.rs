//! Brokers that are killed, hang and come back: nothing is lost, nothing comes twice.

use std::time::{Duration, Instant};

use eventlog::LogError;

use crate::cluster::Cluster;
use crate::work::{PATIENCE, after, copy, input, join, open, output, outputs, take, text};

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// The only broker is killed between two commits and in the middle of them, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_during_commits_loses_and_doubles_nothing() {
    const COUNT: usize = 200;
    let cluster = std::sync::Arc::new(Cluster::start(1, &[]));
    let log = open(cluster.config("")).await;
    log.append((0..COUNT).map(input).collect()).await.expect("appends");
    let mut kills = vec![120, 40];
    let mut restarting = None;
    copy(&log, "0", COUNT, |done| {
        if kills.last().is_some_and(|at| done >= *at) {
            kills.pop();
            let cluster = std::sync::Arc::clone(&cluster);
            // Beside the commit that comes now.
            restarting = Some(std::thread::spawn(move || {
                cluster.tell("kill 1");
                cluster.tell("start 1");
            }));
        }
    })
    .await;
    if let Some(restarting) = restarting {
        restarting.join().expect("the broker is back");
    }
    assert!(kills.is_empty());
    assert_eq!(outputs(&log, COUNT).await, numbers(COUNT));
}

/// Of three brokers one is killed: everything goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_brokers_may_be_away() {
    const COUNT: usize = 100;
    let cluster = Cluster::start(3, &[]);
    let log = open(cluster.config("")).await;
    log.append((0..COUNT / 2).map(input).collect()).await.expect("appends");
    let mut victim = Some("kill 2");
    copy(&log, "0", COUNT / 2, |done| {
        if done >= 10
            && let Some(command) = victim.take()
        {
            cluster.tell(command);
        }
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    for n in COUNT / 2..COUNT {
        // With one of three away, two copies are enough; only the change of leaders may take a moment.
        while let Err(error) = log.append(vec![input(n)]).await {
            assert!(error.is_transient() && Instant::now() < deadline, "{error}");
        }
    }
    copy(&log, "0", COUNT, |_| {}).await;
    assert_eq!(outputs(&log, COUNT).await, numbers(COUNT));
    assert!(log.accepting().is_ok());
}

/// Of three brokers two are killed: no write is acknowledged, none is taken in, however long it lasts, and what was
/// acknowledged before is there afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_of_three_brokers_away_nothing_is_taken_in() {
    const BEFORE: usize = 20;
    let cluster = Cluster::start(3, &[]);
    let log = open(cluster.config("")).await;
    log.append((0..BEFORE).map(input).collect()).await.expect("appends");
    assert!(log.accepting().is_ok());
    for order in ["kill 2", "kill 3"] {
        cluster.tell(order);
    }
    let refused = log.append(vec![input(BEFORE)]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    let begun = Instant::now();
    // Longer than a write takes to fail: nothing that fails in between opens the door again.
    while begun.elapsed() < Duration::from_secs(25) {
        assert!(log.accepting().is_err(), "mail is taken in after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for order in ["start 2", "start 3"] {
        cluster.tell(order);
    }
    let back = async {
        while log.accepting().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it notices that the brokers are back");
    log.append(vec![input(BEFORE + 1)]).await.expect("appends");
    let mut member = join(&log, "0").await;
    let mut found = Vec::new();
    while found.last() != Some(&(BEFORE + 1).to_string()) {
        found.extend(take(&mut *member, 100).await.expect("records").iter().map(text));
    }
    let refused = BEFORE.to_string();
    assert!(found.iter().filter(|value| **value == refused).count() < 2, "it may show up, once: {found:?}");
    found.retain(|value| *value != refused);
    assert_eq!(found, numbers(BEFORE).into_iter().chain([(BEFORE + 1).to_string()]).collect::<Vec<_>>());
}

/// No broker answers: whoever asks is told within bounds, and afterwards all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_holds_nobody_up_for_ever() {
    let cluster = Cluster::start(1, &[]);
    let log = open(cluster.config("")).await;
    log.append((0..2).map(input).collect()).await.expect("appends");
    let mut member = join(&log, "0").await;
    let polled = take(&mut *member, 1).await.expect("polls");
    cluster.tell("pause 1");
    let begun = Instant::now();
    let append = log.append(vec![input(2)]);
    let next = after(&polled);
    let commit = member.commit(vec![output("0")], &next);
    let (append, commit) = tokio::join!(append, commit);
    assert!(matches!(append, Err(LogError::Unavailable(_))), "{append:?}");
    assert!(matches!(commit, Err(LogError::Unavailable(_))), "{commit:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(log.accepting().is_err(), "no mail is taken in meanwhile");
    let early = member.commit(vec![], &next).await;
    assert!(matches!(early, Err(LogError::Unavailable(_))), "its fate is settled first: {early:?}");
    cluster.tell("resume 1");
    let back = async {
        while log.accepting().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it notices that the broker is back");
    // The commit has happened or not, and the worker goes on accordingly. It may have to join anew: requests of a member
    // that nobody answered are carried out now, and one of them fences the other.
    let rest = loop {
        let rest = match member.rewind().await {
            Ok(()) => take(&mut *member, 1).await,
            Err(error) => Err(error),
        };
        match rest {
            Ok(rest) => break rest,
            Err(LogError::Fenced { .. }) => member = join(&log, "0").await,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    let mut expected = vec!["0"; usize::from(text(&rest[0]) != "0")];
    member.commit(vec![output("rest")], &after(&rest)).await.expect("commits");
    expected.push("rest");
    assert_eq!(outputs(&log, expected.len()).await, expected);
}
