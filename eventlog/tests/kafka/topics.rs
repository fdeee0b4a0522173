//! Topics: made as they must be, and refused as they must not.

use eventlog::kafka::{KafkaConfig, KafkaLog, OpenError};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;

use crate::cluster::{Cluster, fresh_prefix};

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &Cluster::shared().brokers[0]).create().expect("a client")
}

async fn refused(config: KafkaConfig) -> String {
    match KafkaLog::open(config).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_topic_is_kept_for_as_long_as_the_design_says() {
    let prefix = fresh_prefix();
    KafkaLog::open(Cluster::shared().config(&prefix)).await.expect("opens");
    let names: Vec<String> =
        ["accepted", "replies", "senders"].iter().map(|name| format!("{prefix}{name}")).collect();
    let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let found = admin().describe_configs(&asked, &AdminOptions::new()).await.expect("described");
    for resource in found {
        let resource = resource.expect("described");
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { panic!("a topic") };
        let of = |name: &str| resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        assert_eq!(of("max.message.bytes"), "1310720");
        match name.strip_prefix(prefix.as_str()).expect("ours") {
            // Mail that nobody has read yet is not theirs to drop.
            "accepted" => {
                assert_eq!((of("cleanup.policy"), of("retention.ms")), ("delete".into(), "-1".into()));
            }
            "replies" => {
                assert_eq!((of("cleanup.policy"), of("retention.ms")), ("delete".into(), "3600000".into()));
            }
            _ => assert_eq!(of("cleanup.policy"), "compact"),
        }
    }
    // A second node finds them good.
    KafkaLog::open(Cluster::shared().config(&prefix)).await.expect("opens");
}

/// Setting, a value that it must not have, the one that it must.
type Wrong = (&'static str, &'static str, &'static str);

/// By topic.
const WRONG: [(&str, &[Wrong]); 3] = [
    (
        "accepted",
        &[
            ("cleanup.policy", "compact", "delete"),
            ("retention.ms", "172800000", "-1"),
            ("retention.bytes", "1000000000", "-1"),
            ("max.message.bytes", "1048576", "1310720"),
            ("unclean.leader.election.enable", "true", "false"),
            ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ],
    ),
    ("verdicts", &[("retention.ms", "60000", "7776000000")]),
    ("senders", &[("cleanup.policy", "delete", "compact"), ("delete.retention.ms", "1000", "86400000")]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_setting_is_named_with_the_command_that_puts_it_right() {
    let prefix = fresh_prefix();
    let config = Cluster::shared().config(&prefix);
    KafkaLog::open(config.clone()).await.expect("opens");
    let mut fixes = Vec::new();
    for (topic, settings) in WRONG {
        let name = format!("{prefix}{topic}");
        // What is not named goes back to the brokers' default.
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&name))
            .set("cleanup.policy", if topic == "senders" { "compact" } else { "delete" })
            .set("retention.ms", "7776000000")
            .set("max.message.bytes", "1310720")
            .set("unclean.leader.election.enable", "false")
            .set("message.timestamp.type", "LogAppendTime");
        for (setting, wrong, right) in settings {
            alter.entries.insert(setting, wrong);
            fixes.push(format!(
                "topic `{name}`: {setting} is {wrong}, must be {right}; run kafka-configs.sh --bootstrap-server {} --alter \
                 --entity-type topics --entity-name {name} --add-config {setting}={right}",
                config.brokers[0]
            ));
        }
        admin().alter_configs([&alter], &AdminOptions::new()).await.expect("asked")[0]
            .as_ref()
            .expect("altered");
    }
    // The controller has it at once, the broker that is asked a moment later.
    let said = loop {
        if let Err(error) = KafkaLog::open(config.clone()).await {
            let said = error.to_string();
            if said.matches("topic `").count() >= fixes.len() {
                break said;
            }
        }
    };
    for fix in &fixes {
        assert!(said.contains(fix), "no {fix}\nin {said}");
    }
    assert_eq!(said.matches("topic `").count(), fixes.len(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_number_of_partitions_is_named() {
    let prefix = fresh_prefix();
    let name = format!("{prefix}accepted");
    let topic = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
    admin().create_topics([&topic], &AdminOptions::new()).await.expect("asked")[0].as_ref().expect("made");
    let said = refused(Cluster::shared().config(&prefix)).await;
    assert!(
        said.contains(&format!("topic `{name}`: partitions is 3, must be 4; set [log] partitions = 3")),
        "{said}"
    );
}

/// A cluster that began as one broker keeps its own topics there, whatever ours say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_copies_of_the_brokers_own_topics_are_named() {
    let cluster = Cluster::start(3, &["offsets.topic.replication.factor=1"]);
    let config = cluster.config("");
    let log = KafkaLog::open(config.clone()).await.expect("opens, there is none yet");
    let log: eventlog::Log = log;
    // Makes it.
    crate::work::join(&log, "0").await.leave().await;
    log.close().await;
    let said = refused(config).await;
    assert!(
        said.contains(
            "topic `__consumer_offsets`: replication factor is 1, must be 3; raise it with kafka-reassign"
        ),
        "{said}"
    );
    assert_eq!(said.matches("topic `").count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_copies_than_brokers_are_refused_with_the_key_to_change() {
    let config = KafkaConfig { replication: 3, ..Cluster::shared().config(&fresh_prefix()) };
    let said = refused(config).await;
    assert!(said.contains("fewer than 3 brokers") && said.contains("[log] replication"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_there_is_said_to_be_so() {
    // A port of this machine that nobody listens on: it was free a moment ago.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let config = KafkaConfig::new(vec![format!("127.0.0.1:{port}")]);
    assert!(matches!(KafkaLog::open(config).await, Err(OpenError::Unreachable { .. })));
}
