//! Where `tracing` events go: standard error, as text or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sets up logging for the process. `filter` is in the syntax of `RUST_LOG`, which wins when it is set.
///
/// # Errors
/// When the filter does not parse.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    start_with(format, filter, false)
}

/// As [`start`]. `has_secret_names`: names that are looked up have keys of DNS lists in them, so the resolver is kept silent,
/// whatever the filter says.
///
/// # Errors
/// As `start`.
pub fn start_with(format: LogFormat, filter: &str, has_secret_names: bool) -> anyhow::Result<()> {
    let mut filter = match std::env::var("RUST_LOG") {
        Ok(from_environment) => from_environment,
        Err(_) => filter.to_owned(),
    };
    if has_secret_names {
        filter.push_str(",hickory_net=off,hickory_proto=off,hickory_resolver=off");
    }
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| anyhow::anyhow!("logging.filter: `{filter}` does not parse: {error}; write it as \"info\" or \"info,delivery=debug\""))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people: a file or the journal would keep them as escape sequences.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
