//! Making the topics, or finding out what is wrong with them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition};
use schemas::Topic;

use super::clients::{Clients, Isolation};
use super::config::KafkaConfig;
use super::names::Names;
use super::notices::Notices;
use super::offsets::Watcher;
use super::topics::{self, TopicProblem};

/// For a cluster that is just starting, too.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
const TRY_FOR: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);
/// Where the brokers keep how far groups have come, and which commits happened. They make these two themselves.
const THEIR_OWN: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
/// A group that nobody is in should keep its place for this long.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the Kafka client cannot be made: {0}; check [log], [log.tls] and [log.sasl]")]
    Client(String),
    #[error(
        "no Kafka broker of {brokers} can be used: {detail}; check [log] brokers, [log.tls] and [log.sasl]"
    )]
    Unreachable { brokers: String, detail: String },
    #[error("topic `{topic}` cannot be made: {detail}")]
    Making { topic: String, detail: String },
    #[error("the topics on the Kafka cluster do not fit:{}", each(.0))]
    Topics(Vec<TopicProblem>),
}

fn each(problems: &[TopicProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Makes the topics that are missing and checks the others.
pub(super) async fn prepare(config: &KafkaConfig, names: &Names, clients: &Clients) -> Result<(), OpenError> {
    let admin: AdminClient<Notices> = clients
        .admin()
        .create_with_context(Notices::default())
        .map_err(|error| OpenError::Client(error.to_string()))?;
    let unreachable = |detail: String| OpenError::Unreachable { brokers: config.bootstrap(), detail };
    let there = partitions(clients).await?;
    let missing: Vec<Topic> =
        Topic::ALL.into_iter().filter(|topic| !there.contains_key(&names.topic(*topic))).collect();
    if !missing.is_empty() {
        make(config, names, &admin, &missing).await?;
    }
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let there = loop {
        let there = partitions(clients).await?;
        let ready = |topic: &Topic| {
            there.get(&names.topic(*topic)).is_some_and(|partitions| partitions.iter().all(|p| p.has_leader))
        };
        if Topic::ALL.iter().all(ready) {
            break there;
        }
        if tokio::time::Instant::now() > deadline {
            return Err(unreachable("topics have partitions without a leader".into()));
        }
        tokio::time::sleep(LOOK).await;
    };
    let mut problems = Vec::new();
    for topic in Topic::ALL {
        let name = names.topic(topic);
        let partitions = &there[&name];
        if partitions.len() != config.partitions(topic) as usize {
            problems.push(topics::wrong_partitions(config, topic, &name, partitions.len()));
        }
        let copies = partitions.iter().map(|partition| partition.copies).min().unwrap_or(0);
        if copies < config.replication as usize {
            problems.push(topics::too_few_copies(config, &name, copies));
        }
    }
    // Lost with their only broker, every group would begin anew: mail that was sent would be sent again.
    for name in THEIR_OWN {
        let copies = there.get(name).into_iter().flatten().map(|partition| partition.copies).min();
        if let Some(copies) = copies.filter(|copies| *copies < config.replication as usize) {
            problems.push(topics::too_few_copies(config, name, copies));
        }
    }
    warn_of_short_memory(config, clients, &admin).await;
    problems.extend(wrong_settings(config, names, &admin).await.map_err(unreachable)?);
    if problems.is_empty() { Ok(()) } else { Err(OpenError::Topics(problems)) }
}

struct Partition {
    copies: usize,
    has_leader: bool,
}

type Partitions = HashMap<String, Vec<Partition>>;

/// The partitions of every topic on the cluster.
async fn partitions(clients: &Clients) -> Result<Partitions, OpenError> {
    let watcher: Watcher = clients
        .watcher(Isolation::Committed)
        .create_with_context(Notices::default())
        .map_err(|error| OpenError::Client(error.to_string()))?;
    let unreachable = |detail| OpenError::Unreachable { brokers: clients.bootstrap(), detail };
    let metadata = tokio::task::spawn_blocking(move || reached(&watcher))
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
        .map_err(unreachable)?;
    let partition = |partition: &MetadataPartition| Partition {
        copies: partition.replicas().len(),
        has_leader: partition.leader() >= 0,
    };
    Ok(metadata
        .topics()
        .iter()
        .map(|topic| (topic.name().to_owned(), topic.partitions().iter().map(partition).collect()))
        .collect())
}

/// Asks until a broker answers; gives up early when one refuses to talk.
fn reached(watcher: &Watcher) -> Result<Metadata, String> {
    let deadline = Instant::now() + REACHED_WITHIN;
    loop {
        let error = match watcher.fetch_metadata(None, TRY_FOR) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        let mut refused = false;
        for _ in 0..20 {
            // Nothing is fetched; this is where librdkafka says what happened to its connections.
            refused |= matches!(
                watcher.poll(Duration::ZERO),
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL
                )))
            );
        }
        if refused || Instant::now() >= deadline {
            return Err(watcher.context().reason().unwrap_or_else(|| error.to_string()));
        }
    }
}

/// Says so when the brokers forget the place of an idle group soon. No reason not to start: it takes a long stop to matter.
async fn warn_of_short_memory(config: &KafkaConfig, clients: &Clients, admin: &AdminClient<Notices>) {
    let Some(minutes) = remembered_minutes(clients, admin).await else { return };
    if Duration::from_secs(minutes.saturating_mul(60)) < REMEMBERED {
        tracing::warn!(
            "the brokers forget how far a group has come when nobody is in it for {} hours (offsets.retention.minutes = \
             {minutes}); after a longer stop mail would be sent again: run kafka-configs.sh --bootstrap-server {} --alter \
             --entity-type brokers --entity-default --add-config offsets.retention.minutes=525600, or set it in the \
             brokers' server.properties where they refuse that",
            minutes / 60,
            config.bootstrap()
        );
    }
}

/// `offsets.retention.minutes` of one broker; none when it is not told.
async fn remembered_minutes(clients: &Clients, admin: &AdminClient<Notices>) -> Option<u64> {
    let watcher: Watcher =
        clients.watcher(Isolation::Committed).create_with_context(Notices::default()).ok()?;
    let metadata = tokio::task::spawn_blocking(move || reached(&watcher)).await.ok()?.ok()?;
    let broker = metadata.brokers().first()?.id();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let described = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options).await.ok()?;
    let resource = described.into_iter().next()?.ok()?;
    resource.get("offsets.retention.minutes")?.value.as_deref()?.parse().ok()
}

async fn make(
    config: &KafkaConfig,
    names: &Names,
    admin: &AdminClient<Notices>,
    missing: &[Topic],
) -> Result<(), OpenError> {
    let planned: Vec<_> = missing
        .iter()
        .map(|topic| (names.topic(*topic), config.partitions(*topic), topics::settings(config, *topic)))
        .collect();
    let copies = i32::try_from(config.replication.max(1)).unwrap_or(i32::MAX);
    let new: Vec<NewTopic<'_>> = planned
        .iter()
        .map(|(name, partitions, settings)| {
            let partitions = i32::try_from(*partitions).unwrap_or(i32::MAX);
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
            settings.iter().fold(new, |new, setting| new.set(setting.name, &setting.wanted))
        })
        .collect();
    let options =
        AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN));
    let unreachable = |error: &KafkaError| OpenError::Unreachable {
        brokers: config.bootstrap(),
        detail: error.to_string(),
    };
    let made = admin.create_topics(&new, &options).await.map_err(|error| unreachable(&error))?;
    for result in made {
        match result {
            Ok(topic) => tracing::info!(topic, "topic made"),
            // Another node was quicker.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                let detail = format!(
                    "the cluster has fewer than {copies} brokers; start more, or set [log] replication to their number"
                );
                return Err(OpenError::Making { topic, detail });
            }
            Err((topic, code)) => return Err(OpenError::Making { topic, detail: code.to_string() }),
        }
    }
    Ok(())
}

async fn wrong_settings(
    config: &KafkaConfig,
    names: &Names,
    admin: &AdminClient<Notices>,
) -> Result<Vec<TopicProblem>, String> {
    let all: Vec<(Topic, String)> = Topic::ALL.into_iter().map(|topic| (topic, names.topic(topic))).collect();
    let asked: Vec<ResourceSpecifier<'_>> =
        all.iter().map(|(_, name)| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let described = admin.describe_configs(&asked, &options).await.map_err(|error| error.to_string())?;
    let mut found: HashMap<String, ConfigResource> = HashMap::new();
    for resource in described {
        let resource = resource.map_err(|code| format!("the topics' settings cannot be read: {code}"))?;
        if let OwnedResourceSpecifier::Topic(name) = &resource.specifier {
            found.insert(name.clone(), resource);
        }
    }
    let mut problems = Vec::new();
    for (topic, name) in &all {
        let Some(resource) = found.get(name) else { continue };
        for setting in topics::settings(config, *topic).into_iter().filter(|setting| setting.checked) {
            let value = resource.get(setting.name).and_then(|entry| entry.value.clone()).unwrap_or_default();
            if !setting.fits(&value) {
                problems.push(TopicProblem {
                    topic: name.clone(),
                    setting: setting.name.into(),
                    found: value,
                    fix: topics::alter(config, name, &setting),
                    wanted: setting.wanted,
                });
            }
        }
    }
    Ok(problems)
}
