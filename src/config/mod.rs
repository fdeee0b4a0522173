//! The static configuration of a node: `mailweir.toml`, read, checked as a whole, and turned into what each worker takes.

mod log;
mod problem;
mod raw;
mod scorer;
mod statistics;
mod validate;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::scorer::outside::dns_lists::DnsList;
use schemas::Mailbox;

pub use log::LogEngine;
pub use problem::{ConfigError, Problem};

/// A configuration in which nothing is left to doubt.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    pub hostname: String,
    pub data_dir: PathBuf,
    pub cluster_key_file: PathBuf,
    pub log: LogEngine,
    pub listeners: Vec<ingress::ListenerConfig>,
    pub tls: Option<ingress::TlsFiles>,
    pub verdict_timeout: Duration,
    pub max_lag: u64,
    pub max_connections: usize,
    pub scorer_slots: usize,
    /// Of the content classifier; `None`: the one that ships with Mailweir.
    pub model: Option<PathBuf>,
    pub dns_lists: Vec<DnsList>,
    pub alignment: Alignment,
    pub delivery: Delivery,
    pub abuse_address: Option<Mailbox>,
    pub report_from: Mailbox,
    /// Where people who get notices reach `[http]` of a process with control; without a slash at the end.
    pub public_url: Option<String>,
    pub database: PathBuf,
    /// In place of `database`.
    pub clickhouse: Option<reporter::store::clickhouse::Target>,
    pub keep_statistics: Duration,
    pub http: Option<SocketAddr>,
    pub log_format: LogFormat,
    pub log_filter: String,
}

/// Whether DNS is asked how From domains stand with this relay.
#[derive(Clone, Debug)]
pub struct Alignment {
    pub enabled: bool,
    /// Where receivers see mail come from; empty: the egress sources.
    pub addresses: Vec<IpAddr>,
}

/// The part of the configuration that only delivery reads.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub relay_host: Option<String>,
    pub dns_servers: Vec<SocketAddr>,
    pub smtp_port: u16,
    pub tls_roots_file: Option<PathBuf>,
    pub connect_timeout: Option<Duration>,
    /// For the reply to the end of a message.
    pub data_timeout: Option<Duration>,
    /// Delays before the second, third ... try; the last one repeats. Empty: the built-in schedule.
    pub retry: Vec<Duration>,
    pub delay_notice_after: Duration,
    pub max_in_flight: Option<usize>,
    pub connections_per_site: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key and what to change.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::of(
                path,
                Problem::new(
                    "(file)",
                    format!("cannot be read: {error}"),
                    "give the right file with --config FILE",
                ),
            )
        })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: raw::File = toml::from_str(text)
            .map_err(|error| ConfigError::of(path, problem::of_toml(text, &error, raw::known_keys())))?;
        validate::validate(file).map_err(|problems| ConfigError { path: path.into(), problems })
    }

    /// The socket that CLI verbs talk to.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }
}
