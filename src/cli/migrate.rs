//! `migrate`: move the log of a stopped node to Kafka.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use eventlog::SystemClock;

use crate::config::{Config, LogEngine};

#[derive(Debug, Args)]
pub(super) struct MigrateArguments {
    /// Configuration with the embedded log. Its node must be stopped; the log is only read, and stays.
    #[arg(long)]
    from: PathBuf,
    /// Configuration of the same node with [log] engine = "kafka" and the same cluster key. The log there must be empty.
    #[arg(long)]
    to: PathBuf,
}

pub(super) async fn migrate(arguments: MigrateArguments) -> anyhow::Result<()> {
    let (from, to) = (Config::load(&arguments.from)?, Config::load(&arguments.to)?);
    crate::logging::start(to.log_format, "warn")?;
    let moved = Box::pin(crate::migrate::migrate(&from, &to, Arc::new(SystemClock))).await?;
    let LogEngine::Kafka(kafka) = &to.log else { return Ok(()) };
    println!("Moved from {} to {}:", from.data_dir.join("log").display(), kafka.brokers.join(", "));
    print!("{moved}");
    if to.clickhouse.is_none() && to.database != from.database {
        println!("Statistics in {} are made anew from the history.", to.database.display());
    }
    println!(
        "Start the node within a week, with --config {}. The old log stays as it was; no node starts on it any more.",
        arguments.to.display()
    );
    Ok(())
}
