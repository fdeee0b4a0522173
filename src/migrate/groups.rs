//! The consumer groups of a node: taken as a whole, looked at, put where they must go on.

use std::time::Duration;

use anyhow::Context as _;
use eventlog::{Consumer, Log};
use schemas::Topic;
use schemas::topics::TopicPartition;

/// The slot of the migration in every group. Every node is stopped meanwhile, so that it takes none from anybody.
const SLOT: &str = ".migrate";
/// A member that died on a cluster is gone by then.
const FREE_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// A group, with the topics it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) topics: Vec<Topic>,
}

fn group(name: impl Into<String>, topics: &[Topic]) -> Group {
    Group { name: name.into(), topics: topics.to_vec() }
}

pub(super) fn scorer() -> Group {
    group("scorer", &[Topic::Accepted, Topic::Commands, Topic::Attempts])
}

pub(super) fn lane(node: &str) -> Group {
    group(format!("lane-{node}"), &[Topic::Commands])
}

pub(super) fn delivery() -> Group {
    group("delivery", &[Topic::Released])
}

pub(super) fn feedback() -> Group {
    group("feedback", &[Topic::Verdicts])
}

/// Those that must not see anything twice. Statistics may, and read the whole history on the target: each event counts
/// once by its id.
fn that_count(node: &str) -> [Group; 4] {
    [scorer(), lane(node), delivery(), feedback()]
}

/// Joins a group and waits until everything is its own.
pub(super) async fn take(log: &Log, group: &Group) -> anyhow::Result<Box<dyn Consumer>> {
    let wanted: u32 = group.topics.iter().map(|topic| log.partitions(*topic)).sum();
    let mut consumer = log.join(&group.name, SLOT, &group.topics).await?;
    let deadline = tokio::time::Instant::now() + FREE_WITHIN;
    while consumer.positions().len() < wanted as usize {
        if tokio::time::Instant::now() > deadline {
            consumer.leave().await;
            anyhow::bail!(
                "another process is at work on this log (a member of group `{}`): stop every node on it first",
                group.name
            );
        }
        // What it gives besides is of no interest: nothing is committed but by name.
        consumer.poll(1, LOOK).await?;
    }
    Ok(consumer)
}

/// Fails when anybody works on the log.
pub(super) async fn are_free(log: &Log, node: &str) -> anyhow::Result<()> {
    for group in that_count(node) {
        take(log, &group).await.context("the log of --to is in use")?.leave().await;
    }
    Ok(())
}

/// Puts every group behind what stands in its topics now.
pub(super) async fn pass_over_all(log: &Log, node: &str) -> anyhow::Result<()> {
    for group in that_count(node) {
        let mut consumer = take(log, &group).await.context("the log of --to is in use")?;
        let mut next = Vec::new();
        for topic in &group.topics {
            let ends = log.ends(*topic).await?;
            next.extend(
                (0..).zip(ends).map(|(partition, end)| (TopicPartition { topic: *topic, partition }, end)),
            );
        }
        consumer.commit(Vec::new(), &next).await?;
        consumer.leave().await;
    }
    Ok(())
}
