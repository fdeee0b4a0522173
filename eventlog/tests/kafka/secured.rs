//! Brokers that want TLS and a password.

use std::sync::OnceLock;

use eventlog::kafka::{KafkaConfig, KafkaLog, KafkaSasl, KafkaTls, SaslMechanism};

use crate::cluster::{Cluster, fresh_prefix};
use crate::work::{after, input, join, open, output, outputs, take};

fn secured() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(1, &["sasl_ssl"]))
}

fn config(mechanism: SaslMechanism, password: &str) -> KafkaConfig {
    KafkaConfig {
        tls: Some(KafkaTls { ca_file: Some(secured().ca_file()), client: None }),
        sasl: Some(KafkaSasl { mechanism, username: "mailweir".into(), password: password.into() }),
        ..secured().config(&fresh_prefix())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mechanism_reads_and_commits_over_tls() {
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let log = open(config(mechanism, "open sesame")).await;
        log.append(vec![input(0)]).await.expect("appends");
        let mut member = join(&log, "0").await;
        let taken = take(&mut *member, 1).await.expect("polls");
        member.commit(vec![output("done")], &after(&taken)).await.expect("commits");
        assert_eq!(outputs(&log, 1).await, ["done"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_root_are_refused() {
    let wrong = KafkaLog::open(config(SaslMechanism::ScramSha512, "wrong")).await;
    let said = wrong.err().expect("refused").to_string();
    assert!(said.contains("[log.sasl]") && !said.contains("wrong"), "{said}");
    let mut untrusted = config(SaslMechanism::Plain, "open sesame");
    untrusted.tls = Some(KafkaTls::default());
    assert!(KafkaLog::open(untrusted).await.is_err());
}
