//! What ingress is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    /// Our name in the greeting and in `EHLO` replies.
    pub hostname: String,
    pub listeners: Vec<ListenerConfig>,
    pub tls: Option<TlsFiles>,
    /// How long the reply to a message waits for its verdict.
    pub verdict_timeout: Duration,
    pub limits: Limits,
}

#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub bind: SocketAddr,
    pub tls: ListenerTls,
    /// Peers that must begin with a PROXY header (v1 or v2), which names the real client.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Offer AUTH also without TLS.
    pub auth_without_tls: bool,
    /// Go on without it on a machine that does not have its kind of address, as IPv6.
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    StartTls,
    Implicit,
    None,
}

#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM, the server's certificate first.
    pub certificate: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Bounds on what a client can make us do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of all clients together, those that wait for a slot included.
    pub max_connections: usize,
    /// Connections of one client address that wait for a slot; more get their 421 at once.
    pub max_waiting_per_ip: u32,
    /// How long a connection over its client's cap waits for a slot.
    pub slot_wait: Duration,
    /// Octets of a command line, with its CRLF (RFC 5321 4.5.3.1.4, with room for extensions).
    pub command_line: usize,
    /// Octets of a line of an AUTH dialogue (RFC 4954 4.1).
    pub auth_line: usize,
    /// Errors after which a session is ended.
    pub errors: u32,
    /// Recipients of one message.
    pub recipients: usize,
    /// Between two commands (RFC 5321 4.5.3.2.7).
    pub command_timeout: Duration,
    /// Between two reads of a message (RFC 5321 4.5.3.2.8).
    pub data_timeout: Duration,
    /// For one message as a whole.
    pub message_timeout: Duration,
    /// Bytes of messages being received, all sessions together.
    pub bytes_in_flight: usize,
    /// How long a graceful stop waits for messages under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 20_000,
            max_waiting_per_ip: 50,
            slot_wait: Duration::from_secs(10),
            command_line: 2048,
            auth_line: 12_288,
            errors: 20,
            recipients: 1000,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            message_timeout: Duration::from_secs(1800),
            bytes_in_flight: 128 << 20,
            drain: Duration::from_secs(30),
        }
    }
}
