//! Talking to the running node.

use std::io::Write;

use schemas::Timestamp;

use super::Node;
use crate::config::Config;
use crate::socket::Client;

/// A client of the node's control socket; the audit trail names the user and host of this terminal.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn client(node: &Node) -> anyhow::Result<Client> {
    let config = Config::load(&node.config)?;
    Ok(Client::new(config.control_socket(), actor()))
}

/// `root@host (cli)`.
pub(super) fn actor() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{} (cli)", user.as_deref().unwrap_or("unknown"), host.trim())
}

/// A duration before now (`10m`, `7d`), in milliseconds since 1970.
///
/// # Errors
/// When the text is no duration.
pub(super) fn since(text: &str) -> anyhow::Result<i64> {
    let ago = humantime::parse_duration(text).map_err(|_| {
        anyhow::anyhow!("`{text}` is no duration: write a number and a unit, as 10m, 2h or 7d")
    })?;
    let now = eventlog::Clock::now(&eventlog::SystemClock);
    Ok(now.minus(ago).0)
}

pub(super) fn now() -> Timestamp {
    eventlog::Clock::now(&eventlog::SystemClock)
}

/// Prints a value as JSON.
///
/// # Errors
/// When standard output is closed.
pub(super) fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Asks a question that must be answered with `y`; without a terminal the answer is no.
///
/// # Errors
/// When the terminal cannot be read.
pub(super) fn confirm(question: &str) -> anyhow::Result<bool> {
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
