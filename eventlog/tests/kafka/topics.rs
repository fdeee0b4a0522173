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
            "accepted" => {
                assert_eq!((of("cleanup.policy"), of("retention.ms")), ("delete".into(), "172800000".into()));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_setting_is_named_with_the_command_that_puts_it_right() {
    let prefix = fresh_prefix();
    let config = Cluster::shared().config(&prefix);
    KafkaLog::open(config.clone()).await.expect("opens");
    let name = format!("{prefix}accepted");
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "60000")
        .set("max.message.bytes", "1310720")
        .set("unclean.leader.election.enable", "false")
        .set("message.timestamp.type", "LogAppendTime");
    admin().alter_configs([&alter], &AdminOptions::new()).await.expect("asked")[0].as_ref().expect("altered");
    // The controller has it at once, the broker that is asked a moment later.
    let said = loop {
        if let Err(error) = KafkaLog::open(config.clone()).await {
            break error.to_string();
        }
    };
    let fix = format!(
        "topic `{name}`: retention.ms is 60000, must be 172800000; run kafka-configs.sh --bootstrap-server {} --alter \
         --entity-type topics --entity-name {name} --add-config retention.ms=172800000",
        config.brokers[0]
    );
    assert!(said.contains(&fix), "{said}");
    assert_eq!(said.matches("topic `").count(), 1, "{said}");
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
