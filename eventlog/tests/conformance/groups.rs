//! Membership: who owns which partition, and who no longer does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eventlog::{Log, LogError};
use schemas::Topic;
use schemas::topics::TopicPartition;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Follower, PATIENCE, after, numbers, record, text};

const TOPICS: [Topic; 2] = [Topic::Accepted, Topic::Commands];

async fn fill(log: &Log, count: usize) {
    let records = (0..count).map(|n| record(Topic::Accepted, &format!("k{n}"), n.to_string())).collect();
    log.append(records).await.expect("appends");
}

pub async fn a_new_group_begins_at_the_start(engine: &mut dyn Engine, log: Log) {
    fill(&log, 100).await;
    let mut first = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let taken = first.take(100).await;
    first.consumer.commit(vec![], &after(&taken[..])).await.expect("commits");
    first.consumer.leave().await;
    fill(&log, 3).await;
    let log = engine.reopen(log).await;
    let mut second = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let rest: BTreeSet<String> = second.take(3).await.iter().map(text).collect();
    assert_eq!(rest, ["0", "1", "2"].map(str::to_owned).into());
    let mut other = Follower::join(&log, "other", "0", &[Topic::Accepted]).await;
    assert_eq!(other.take(103).await.len(), 103, "groups do not know of each other");
}

pub async fn two_and_three_members_share_and_take_over(_: &mut dyn Engine, log: Log) {
    let owns = |count: usize| move |owned: &BTreeSet<TopicPartition>| owned.len() == count;
    let mut a = Follower::join(&log, "g", "a", &[Topic::Accepted]).await;
    a.until_owns(owns(4)).await;
    let mut b = Follower::join(&log, "g", "b", &[Topic::Accepted]).await;
    tokio::join!(a.until_owns(owns(2)), b.until_owns(owns(2)));
    let mut c = Follower::join(&log, "g", "c", &[Topic::Accepted]).await;
    let sizes = |sizes: [usize; 3]| {
        move |owned: &BTreeSet<TopicPartition>| sizes.contains(&owned.len()) && !owned.is_empty()
    };
    let spread = async {
        loop {
            for member in [&mut a, &mut b, &mut c] {
                member.poll(1, Duration::from_millis(20)).await.expect("polls");
            }
            let union: BTreeSet<TopicPartition> =
                [&a, &b, &c].iter().flat_map(|member| member.owned.iter().copied()).collect();
            let all_have_some = [&a, &b, &c].iter().all(|member| sizes([1, 2, 2])(&member.owned));
            let total: usize = [&a, &b, &c].iter().map(|member| member.owned.len()).sum();
            if all_have_some && union.len() == 4 && total == 4 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, spread).await.expect("spread in time");
    a.consumer.leave().await;
    tokio::join!(b.until_owns(owns(2)), c.until_owns(owns(2)));
    drop(b);
    c.until_owns(owns(4)).await;
}

pub async fn topics_partitioned_alike_are_assigned_alike(_: &mut dyn Engine, log: Log) {
    let mut a = Follower::join(&log, "g", "a", &TOPICS).await;
    let mut b = Follower::join(&log, "g", "b", &TOPICS).await;
    let owns = |owned: &BTreeSet<TopicPartition>| owned.len() == 4;
    tokio::join!(a.until_owns(owns), b.until_owns(owns));
    for member in [&a, &b] {
        let owned: Vec<TopicPartition> = member.owned.iter().copied().collect();
        assert_eq!(numbers(&owned, Topic::Accepted), numbers(&owned, Topic::Commands));
    }
    assert!(a.owned.is_disjoint(&b.owned));
}

pub async fn who_has_no_room_hears_what_it_lost(_: &mut dyn Engine, log: Log) {
    let records = (0..40).map(|n| record(Topic::Accepted, &format!("k{n}"), n.to_string())).collect();
    log.append(records).await.expect("appends");
    let mut a = Follower::join(&log, "g", "a", &[Topic::Accepted]).await;
    a.until_owns_without_room(|owned| owned.len() == 4).await;
    let mut b = Follower::join(&log, "g", "b", &[Topic::Accepted]).await;
    tokio::join!(
        a.until_owns_without_room(|owned| owned.len() == 2),
        b.until_owns_without_room(|owned| owned.len() == 2),
    );
    let (from_a, from_b) = tokio::join!(a.take(1), b.take(1));
    assert_eq!((from_a.len(), from_b.len()), (1, 1));
}

/// Members come and go while records flow; each record is committed by exactly one, in order, and never worked on by two
/// at a time.
pub async fn no_record_is_with_two_members(_: &mut dyn Engine, log: Log) {
    const COUNT: usize = 3000;
    let in_work: Arc<Mutex<BTreeMap<TopicPartition, usize>>> = Arc::default();
    let stop = CancellationToken::new();
    let mut members = tokio::task::JoinSet::new();
    for slot in 0..3_usize {
        let (log, in_work, stop) = (log.clone(), Arc::clone(&in_work), stop.clone());
        members.spawn(async move {
            while !stop.is_cancelled() {
                let mut member = Follower::join(&log, "g", &format!("slot{slot}"), &[Topic::Accepted]).await;
                // A life begins with the first partition: joining takes longer on one engine than on the other.
                let mut rounds = 0;
                while rounds < 10 + 7 * slot && !stop.is_cancelled() {
                    work(&mut member, slot, &in_work).await;
                    rounds += usize::from(!member.owned.is_empty());
                }
                // Every member leaves now and then, in one way or the other.
                if slot == 1 { member.consumer.leave().await } else { drop(member) }
            }
        });
    }
    for chunk in 0..COUNT / 50 {
        let records = (0..50)
            .map(|n| record(Topic::Accepted, &format!("k{n}"), (chunk * 50 + n).to_string()))
            .collect();
        log.append(records).await.expect("appends");
    }
    let mut outputs = Follower::join(&log, "outputs", "0", &[Topic::Verdicts]).await;
    let taken = outputs.take(COUNT).await;
    stop.cancel();
    while let Some(done) = members.join_next().await {
        done.expect("works");
    }
    let mut inputs: Vec<usize> = taken.iter().map(|record| text(record).parse().expect("a number")).collect();
    inputs.sort_unstable();
    assert_eq!(inputs, (0..COUNT).collect::<Vec<_>>());
    assert!(outputs.poll(1, Duration::from_millis(100)).await.expect("polls").is_empty());
}

async fn work(member: &mut Follower, slot: usize, in_work: &Mutex<BTreeMap<TopicPartition, usize>>) {
    let records = match member.poll(20, Duration::from_millis(10)).await {
        Ok(records) => records,
        Err(error) => panic!("{error}"),
    };
    let next = after(&records);
    for (of, _) in &next {
        let other = in_work.lock().expect("no panic").insert(*of, slot);
        assert!(other.is_none(), "{of:?} is with two members");
    }
    tokio::task::yield_now().await;
    let outputs = records.iter().map(|r| record(Topic::Verdicts, "v", text(r)).in_partition(0)).collect();
    for (of, _) in &next {
        in_work.lock().expect("no panic").remove(of);
    }
    match member.consumer.commit(outputs, &next).await {
        Ok(_) => {}
        Err(LogError::Fenced { .. }) => panic!("a member that polls in time is not fenced"),
        Err(error) => panic!("{error}"),
    }
}

pub async fn a_slot_taken_over_fences_the_old_member(_: &mut dyn Engine, log: Log) {
    fill(&log, 10).await;
    let mut zombie = Follower::join(&log, "g", "slot", &[Topic::Accepted]).await;
    let polled = zombie.take(10).await;
    let mut heir = Follower::join(&log, "g", "slot", &[Topic::Accepted]).await;
    let again = heir.take(10).await;
    let output = || vec![record(Topic::Verdicts, "v", "out").in_partition(0)];
    for next in [after(&polled), vec![]] {
        let refused = zombie.consumer.commit(output(), &next).await;
        assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    }
    let refused = zombie.consumer.poll(1, Duration::from_secs(5)).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    assert!(matches!(zombie.consumer.rewind().await, Err(LogError::Fenced { .. })));
    drop(zombie);
    let written = heir.consumer.commit(output(), &after(&again)).await.expect("the heir commits");
    assert_eq!(log.read(written[0]).await.expect("reads").map(|r| text(&r)).as_deref(), Some("out"));
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 0);
}

pub async fn a_lost_partition_cannot_be_committed(_: &mut dyn Engine, log: Log) {
    fill(&log, 40).await;
    let mut a = Follower::join(&log, "g", "a", &[Topic::Accepted]).await;
    let polled = a.take(40).await;
    let mut b = Follower::join(&log, "g", "b", &[Topic::Accepted]).await;
    // `a` learns of its loss by polling; then what it lost is not to be committed any more.
    let lost = async {
        while a.owned.len() != 2 {
            a.poll(1, Duration::from_millis(20)).await.expect("polls");
            if b.owned.is_empty() {
                b.poll(1, Duration::from_millis(1)).await.expect("polls");
            }
        }
    };
    tokio::time::timeout(PATIENCE, lost).await.expect("revoked in time");
    let refused = a.consumer.commit(vec![record(Topic::Verdicts, "v", "x")], &after(&polled)).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
    let owned = a.owned.clone();
    let still: Vec<_> = after(&polled).into_iter().filter(|(of, _)| owned.contains(of)).collect();
    a.consumer.commit(vec![], &still).await.expect("what is still its own can be committed");
    let expected = polled.iter().filter(|r| !a.owned.contains(&r.position.topic_partition())).count();
    let mut count = 0;
    while count < expected {
        count += b.poll(100, PATIENCE).await.expect("polls").len();
    }
    assert_eq!(count, expected, "`b` goes on from the last commit of what it was given");
}

pub async fn lag_counts_what_is_not_committed(_: &mut dyn Engine, log: Log) {
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 0);
    fill(&log, 10).await;
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 10);
    let mut member = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let taken = member.take(10).await;
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 10, "polled is not committed");
    member.consumer.commit(vec![], &after(&taken)).await.expect("commits");
    assert_eq!(log.lag("g", Topic::Accepted).await.expect("lag"), 0);
    assert_eq!(log.lag("other", Topic::Accepted).await.expect("lag"), 10);
}

/// A worker that polls with very little patience, as one does that waits for several things at once, misses nothing.
pub async fn a_dropped_poll_has_passed_over_nothing(_: &mut dyn Engine, log: Log) {
    const COUNT: usize = 300;
    let mut member = Follower::join(&log, "g", "0", &[Topic::Accepted]).await;
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        for n in 0..COUNT {
            let record = record(Topic::Accepted, "k", n.to_string()).in_partition(0);
            writer.append(vec![record]).await.expect("appends");
        }
    });
    let (mut seen, mut attempt) = (Vec::new(), 0);
    while seen.len() < COUNT {
        attempt += 1;
        let patience = Duration::from_micros(attempt % 4 * 700);
        if let Ok(records) = tokio::time::timeout(patience, member.poll(3, PATIENCE)).await {
            seen.extend(records.expect("polls").iter().map(text));
        }
        tokio::task::yield_now().await;
    }
    writing.await.expect("writes");
    assert_eq!(seen, (0..COUNT).map(|n| n.to_string()).collect::<Vec<_>>());
}
