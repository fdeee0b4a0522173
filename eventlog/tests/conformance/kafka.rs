//! The Kafka engine under test, on a real broker.

use async_trait::async_trait;
use eventlog::Log;
use eventlog::kafka::KafkaLog;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::Topic;

use crate::cluster::{Cluster, fresh_prefix};
use crate::engine::Engine;

pub struct KafkaEngine {
    cluster: &'static Cluster,
    prefix: String,
}

impl KafkaEngine {
    pub fn new() -> Self {
        KafkaEngine { cluster: Cluster::shared(), prefix: fresh_prefix() }
    }
}

#[async_trait]
impl Engine for KafkaEngine {
    async fn open(&mut self) -> Log {
        KafkaLog::open(self.cluster.config(&self.prefix)).await.expect("opens")
    }

    async fn reopen(&mut self, log: Log) -> Log {
        log.close().await;
        self.open().await
    }

    /// What retention does, without waiting for it.
    async fn outlive(&mut self, log: &Log, topic: Topic) {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.cluster.brokers[0])
            .create()
            .expect("a client");
        let mut all = TopicPartitionList::new();
        for partition in 0..log.partitions(topic) {
            let name = format!("{}{topic}", self.prefix);
            all.add_partition_offset(&name, partition.cast_signed(), Offset::End).expect("an offset");
        }
        admin.delete_records(&all, &AdminOptions::new()).await.expect("they are dropped");
    }
}
