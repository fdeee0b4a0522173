//! `mailweir.toml` as it is written: every key optional or plain text, unknown keys refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub node: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub cluster_key_file: Option<PathBuf>,
    pub log: Log,
    pub ingress: Ingress,
    pub tls: Option<Tls>,
    pub scorer: Scorer,
    pub delivery: Delivery,
    pub reporter: Reporter,
    pub statistics: Statistics,
    pub http: Option<Http>,
    pub logging: Logging,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub engine: Option<String>,
    pub brokers: Vec<String>,
    pub min_free: Option<String>,
    pub partitions: Option<u32>,
    pub replication: Option<u32>,
    pub prefix: Option<String>,
    pub tls: Option<LogTls>,
    pub sasl: Option<LogSasl>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTls {
    pub ca_file: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogSasl {
    pub mechanism: Option<String>,
    pub username: String,
    pub password_file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ingress {
    pub hostname: Option<String>,
    pub listener: Vec<Listener>,
    pub verdict_timeout: Option<String>,
    pub max_lag: Option<u64>,
    pub max_connections: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub bind: String,
    #[serde(default)]
    pub tls: Option<String>,
    #[serde(default)]
    pub proxy_protocol_from: Vec<String>,
    #[serde(default)]
    pub auth_without_tls: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scorer {
    pub slots: Option<usize>,
    pub model: Option<PathBuf>,
    pub dns_list: Vec<DnsList>,
    pub alignment: Alignment,
    pub rspamd: Option<Rspamd>,
    pub spamassassin: Option<Engine>,
    pub clamav: Option<Engine>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DnsList {
    pub zone: String,
    pub kind: Option<String>,
    pub codes: Vec<String>,
    /// A secret: shown nowhere.
    #[serde(deserialize_with = "secret")]
    pub key: Option<String>,
    pub weight: Option<f32>,
    pub symbol: Option<String>,
    pub test_point: Option<String>,
}

/// What stands there as something else than a text may be a secret without its quotes: what serde says of it shows it.
fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => Ok(Some(text)),
        _ => Err(serde::de::Error::custom("the key is a text, between quotes")),
    }
}

impl std::fmt::Debug for DnsList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsList").field("zone", &self.zone).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Alignment {
    pub enabled: Option<bool>,
    pub addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rspamd {
    pub url: String,
    pub password_file: Option<PathBuf>,
    pub max_connections: Option<usize>,
    pub max_message_bytes: Option<usize>,
    pub when_down: Option<String>,
    pub weight: Option<f32>,
    #[serde(default)]
    pub weights: BTreeMap<String, f32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub address: String,
    pub max_connections: Option<usize>,
    pub max_message_bytes: Option<usize>,
    pub when_down: Option<String>,
    pub weight: Option<f32>,
    #[serde(default)]
    pub weights: BTreeMap<String, f32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Delivery {
    pub relay_host: Option<String>,
    pub dns_servers: Vec<String>,
    pub smtp_port: Option<u16>,
    pub tls_roots_file: Option<PathBuf>,
    pub connect_timeout: Option<String>,
    pub data_timeout: Option<String>,
    pub retry: Option<Vec<String>>,
    pub delay_notice_after: Option<String>,
    pub max_in_flight: Option<usize>,
    pub connections_per_site: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reporter {
    pub abuse_address: Option<String>,
    pub report_from: Option<String>,
    pub public_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Statistics {
    pub clickhouse: Option<String>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub database: Option<PathBuf>,
    pub keep: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub bind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Logging {
    pub format: Option<String>,
    pub filter: Option<String>,
}

/// The keys of every table, for the hint behind a misspelt one.
pub(super) fn known_keys() -> &'static [&'static str] {
    &[
        "node",
        "data_dir",
        "cluster_key_file",
        "log",
        "ingress",
        "tls",
        "scorer",
        "delivery",
        "reporter",
        "statistics",
        "http",
        "logging",
        "engine",
        "brokers",
        "min_free",
        "partitions",
        "replication",
        "prefix",
        "sasl",
        "ca_file",
        "mechanism",
        "username",
        "password_file",
        "hostname",
        "listener",
        "verdict_timeout",
        "max_lag",
        "max_connections",
        "bind",
        "proxy_protocol_from",
        "auth_without_tls",
        "certificate",
        "key",
        "slots",
        "model",
        "dns_list",
        "zone",
        "kind",
        "codes",
        "weight",
        "symbol",
        "test_point",
        "alignment",
        "enabled",
        "addresses",
        "rspamd",
        "spamassassin",
        "clamav",
        "url",
        "address",
        "max_message_bytes",
        "when_down",
        "weights",
        "relay_host",
        "dns_servers",
        "smtp_port",
        "tls_roots_file",
        "connect_timeout",
        "data_timeout",
        "retry",
        "delay_notice_after",
        "max_in_flight",
        "connections_per_site",
        "abuse_address",
        "report_from",
        "public_url",
        "clickhouse",
        "user",
        "password_file",
        "database",
        "keep",
        "format",
        "filter",
    ]
}

/// An address given as text; kept so that the error can name the key.
pub(super) fn ip_networks(texts: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    texts
        .iter()
        .map(|text| {
            text.parse::<ipnet::IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from))
                .map_err(|_| text.clone())
        })
        .collect()
}
