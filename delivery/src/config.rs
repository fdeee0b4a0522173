//! What delivery is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemas::sealed::ClusterKey;

use crate::RetrySchedule;

#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    /// No other node shares the log: what another one should send would wait for ever.
    pub alone: bool,
    /// Our name in trace fields, and in EHLO where the egress source has none.
    pub hostname: String,
    /// `host:port` that everything goes to, in place of MX: staging only.
    pub relay_host: Option<String>,
    /// Empty: what the system is set up with.
    pub dns_servers: Vec<SocketAddr>,
    /// Port of the servers that MX names.
    pub smtp_port: u16,
    /// Opens the private DKIM keys in the settings.
    pub cluster_key: Option<ClusterKey>,
    /// PEM of root certificates, in place of the system's.
    pub tls_roots_file: Option<PathBuf>,
    pub retry: RetrySchedule,
    /// When the sender is told that it takes longer.
    pub delay_notice_after: Duration,
    /// Message groups being delivered at a time.
    pub max_in_flight: usize,
    /// The same in bytes of their messages. One message is let through whatever its size.
    pub max_in_flight_bytes: u64,
    /// Of these, groups for one site; more wait in the queue.
    pub max_in_flight_per_site: usize,
    /// Connections at a time, per egress source and site.
    pub connections_per_site: usize,
    /// Recipients of one transaction; every server takes 100 (RFC 5321 4.5.3.1.8).
    pub recipients_per_transaction: usize,
    /// Messages over one connection.
    pub messages_per_connection: usize,
    /// To connect, and for the greeting (RFC 5321 4.5.3.2.1).
    pub connect_timeout: Duration,
    /// For a reply to a command (RFC 5321 4.5.3.2).
    pub command_timeout: Duration,
    /// For the reply to the end of a message (RFC 5321 4.5.3.2.6).
    pub data_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a site that could not be reached is not tried by further messages.
    pub down_for: Duration,
    /// Longest time between the remote's 250 and our commit of it.
    pub commit_interval: Duration,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(node: String, hostname: String) -> Self {
        Config {
            node,
            alone: false,
            hostname,
            relay_host: None,
            dns_servers: Vec::new(),
            smtp_port: 25,
            cluster_key: None,
            tls_roots_file: None,
            retry: RetrySchedule::default(),
            delay_notice_after: Duration::from_secs(4 * 3600),
            max_in_flight: 2000,
            max_in_flight_bytes: 128 << 20,
            max_in_flight_per_site: 500,
            connections_per_site: 20,
            recipients_per_transaction: 100,
            messages_per_connection: 100,
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(5),
            down_for: Duration::from_secs(30),
            commit_interval: Duration::from_millis(90),
        }
    }
}
