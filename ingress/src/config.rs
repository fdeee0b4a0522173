//! What an administrator may set about ingress in `mailweir.toml`, already validated.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Configuration of the ingress of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node, as in the envelope; also what chooses its partition of `replies`.
    pub node: String,
    /// Name in the greeting and in replies.
    pub hostname: String,
    pub listeners: Vec<ListenerConfig>,
    /// Needed when a listener offers TLS.
    pub tls: Option<TlsFiles>,
    /// How long a session waits for the verdict before it answers 250 (5 s).
    pub verdict_timeout: Duration,
    /// Records of `accepted` that are not scored yet; past it clients get 451.
    pub max_lag: u64,
    pub limits: Limits,
}

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub bind: SocketAddr,
    pub tls: ListenerTls,
    /// Peers that must begin each connection with a PROXY protocol header (v1 or v2), and the only ones that may.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Offers AUTH on connections without TLS.
    pub auth_without_tls: bool,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// With the command STARTTLS (RFC 3207).
    StartTls,
    /// With the connection (RFC 8314).
    Implicit,
    /// Never.
    None,
}

/// PEM files, read again when they change.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Bounds on what clients may use up. The defaults are meant to stay.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time, over all clients, those that wait for a slot included (20,000).
    pub max_connections: usize,
    /// Connections of one client IP that wait for a slot; more get their 421 at once (50).
    pub max_waiting_per_ip: u32,
    /// How long a connection waits for a slot of its client IP (10 s).
    pub slot_wait: Duration,
    /// Longest command line in bytes, CRLF included (2,048; RFC 5321 asks for 512 and what the extensions add).
    pub command_line_bytes: usize,
    /// Longest line of an AUTH exchange in bytes, CRLF included (12,288; RFC 4954).
    pub auth_line_bytes: usize,
    /// Commands of a session that are refused as wrong before it is closed with 421 (10).
    pub max_errors: u32,
    /// Commands between two accepted messages before the session is closed with 421 (10,000).
    pub max_commands: u32,
    /// Failed logins of a session before it is closed with 421 (3).
    pub max_failed_logins: u32,
    /// Recipients of one message; one more gets 452 (2,000; RFC 5321 asks for at least 100).
    pub max_recipients: usize,
    /// Time for a PROXY header or a TLS handshake (30 s).
    pub handshake_timeout: Duration,
    /// Time between two commands (5 minutes; RFC 5321 4.5.3.2.7).
    pub command_timeout: Duration,
    /// Time between two reads within a message (3 minutes; RFC 5321 4.5.3.2.5).
    pub data_timeout: Duration,
    /// Time for a whole message (1 hour).
    pub message_timeout: Duration,
    /// Time for a client to take our replies (1 minute).
    pub write_timeout: Duration,
    /// Bytes of messages that stand in memory at a time, over all sessions; past it clients get 452 (256 MiB).
    pub bytes_in_flight: usize,
    /// Bytes of a message over its maximum size that are read and thrown away before the connection is closed (64 MiB).
    pub discard_bytes: u64,
    /// Sessions that wait for a verdict at a time; the others are answered without (10,000).
    pub max_waiting_verdicts: usize,
    /// Password verifications at a time; each needs a core and 19 MiB for some 30 ms (2).
    pub concurrent_verifications: usize,
    /// How long sessions within a message may go on after a graceful stop has begun (30 s).
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            max_connections: 20_000,
            max_waiting_per_ip: 50,
            slot_wait: seconds(10),
            command_line_bytes: 2048,
            auth_line_bytes: 12_288,
            max_errors: 10,
            max_commands: 10_000,
            max_failed_logins: 3,
            max_recipients: 2000,
            handshake_timeout: seconds(30),
            command_timeout: seconds(300),
            data_timeout: seconds(180),
            message_timeout: seconds(3600),
            write_timeout: seconds(60),
            bytes_in_flight: 256 << 20,
            discard_bytes: 64 << 20,
            max_waiting_verdicts: 10_000,
            concurrent_verifications: 2,
            drain_timeout: seconds(30),
        }
    }
}
