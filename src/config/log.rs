//! `[log]`: which engine keeps the log, and what each of them has to be told.

use std::path::PathBuf;

use eventlog::kafka::{KafkaClientCertificate, KafkaConfig, KafkaSasl, KafkaTls, SaslMechanism};

use super::raw;
use super::validate::Checker;

/// Where the log is kept.
#[derive(Clone, Debug)]
pub enum LogEngine {
    /// Under `data_dir`, by this process.
    Embedded { min_free_bytes: u64 },
    /// On a Kafka cluster, by any number of processes.
    Kafka(KafkaConfig),
}

pub(super) fn engine(check: &mut Checker, raw: raw::Log) -> LogEngine {
    match raw.engine.as_deref() {
        None | Some("embedded") => {
            only_for_kafka(check, &raw);
            LogEngine::Embedded { min_free_bytes: min_free(check, raw.min_free.as_deref()) }
        }
        Some("kafka") => LogEngine::Kafka(kafka(check, raw)),
        Some(other) => {
            check.problem("log.engine", format!("`{other}` is no engine"), "use \"embedded\" or \"kafka\"");
            LogEngine::Embedded { min_free_bytes: 0 }
        }
    }
}

fn only_for_kafka(check: &mut Checker, raw: &raw::Log) {
    let given = [
        ("log.brokers", !raw.brokers.is_empty()),
        ("log.partitions", raw.partitions.is_some()),
        ("log.replication", raw.replication.is_some()),
        ("log.prefix", raw.prefix.is_some()),
        ("log.tls", raw.tls.is_some()),
        ("log.sasl", raw.sasl.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        check.problem(key, "is for engine = \"kafka\" only", "remove it");
    }
}

fn min_free(check: &mut Checker, text: Option<&str>) -> u64 {
    let default = 1 << 30;
    let Some(text) = text else { return default };
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => size.as_u64(),
        Err(_) => {
            check.problem(
                "log.min_free",
                format!("`{text}` is no size"),
                "write a number and a unit, as \"1GiB\"",
            );
            default
        }
    }
}

fn kafka(check: &mut Checker, raw: raw::Log) -> KafkaConfig {
    if raw.min_free.is_some() {
        check.problem(
            "log.min_free",
            "is for engine = \"embedded\" only",
            "remove it: the brokers mind their disks",
        );
    }
    if raw.brokers.is_empty() {
        check.problem(
            "log.brokers",
            "is missing",
            "name some brokers, as [\"kafka1:9092\", \"kafka2:9092\"]",
        );
    }
    for (index, broker) in raw.brokers.iter().enumerate() {
        if broker.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            check.problem(
                format!("log.brokers[{index}]"),
                format!("`{broker}` is no host and port"),
                "write it as \"kafka1:9092\"",
            );
        }
    }
    let prefix = raw.prefix.unwrap_or_default();
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if prefix.len() > 64 || !prefix.bytes().all(good) {
        check.problem(
            "log.prefix",
            format!("`{prefix}` cannot stand before a topic's name"),
            "use letters, digits, `-`, `_` and `.`, at most 64, as \"mailweir.\"",
        );
    }
    KafkaConfig {
        partitions: within(check, "log.partitions", raw.partitions, KafkaConfig::PARTITIONS, 1024),
        replication: within(check, "log.replication", raw.replication, KafkaConfig::REPLICATION, 16),
        tls: raw.tls.map(|raw| tls(check, raw)),
        sasl: raw.sasl.and_then(|raw| sasl(check, raw)),
        prefix,
        ..KafkaConfig::new(raw.brokers)
    }
}

fn within(check: &mut Checker, key: &str, given: Option<u32>, default: u32, max: u32) -> u32 {
    let number = given.unwrap_or(default);
    if !(1..=max).contains(&number) {
        check.problem(key, format!("{number} is out of range"), format!("use a number from 1 to {max}"));
    }
    number
}

fn tls(check: &mut Checker, raw: raw::LogTls) -> KafkaTls {
    let files = [
        ("log.tls.ca_file", &raw.ca_file),
        ("log.tls.certificate", &raw.certificate),
        ("log.tls.key", &raw.key),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            check.pem_file(key, path);
        }
    }
    let client = match (raw.certificate, raw.key) {
        (Some(certificate_file), Some(key_file)) => {
            Some(KafkaClientCertificate { certificate_file, key_file })
        }
        (None, None) => None,
        (certificate, _) => {
            let (key, other) = if certificate.is_some() {
                ("log.tls.key", "certificate")
            } else {
                ("log.tls.certificate", "key")
            };
            check.problem(key, "is missing", format!("give it beside {other}, or leave both out"));
            None
        }
    };
    KafkaTls { ca_file: raw.ca_file, client }
}

fn sasl(check: &mut Checker, raw: raw::LogSasl) -> Option<KafkaSasl> {
    let mechanism = match raw.mechanism.as_deref() {
        None | Some("SCRAM-SHA-512") => SaslMechanism::ScramSha512,
        Some("SCRAM-SHA-256") => SaslMechanism::ScramSha256,
        Some("PLAIN") => SaslMechanism::Plain,
        Some(other) => {
            check.problem(
                "log.sasl.mechanism",
                format!("`{other}` is no mechanism"),
                "use \"SCRAM-SHA-512\", \"SCRAM-SHA-256\" or \"PLAIN\"",
            );
            return None;
        }
    };
    Some(KafkaSasl { mechanism, username: raw.username, password: password(check, &raw.password_file)? })
}

fn password(check: &mut Checker, path: &PathBuf) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim_end().is_empty() => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Ok(_) => {
            check.problem(
                "log.sasl.password_file",
                format!("{} is empty", path.display()),
                "write the password into it, on one line",
            );
            None
        }
        Err(error) => {
            check.problem(
                "log.sasl.password_file",
                format!("{} cannot be read: {error}", path.display()),
                "give the path of a file with the password that mailweir may read",
            );
            None
        }
    }
}
