//! `run`, `check`, `status`, `backup`, `restore`: what concerns the node itself.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use control::api::{BackupAnswer, DirectoryRequest, StatusAnswer};
use eventlog::SystemClock;

use super::table::{Table, time};
use super::{Node, Output, ask};
use crate::config::{Config, LogEngine};
use crate::roles::{Role, Roles};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Roles to run, of ingress, scorer, delivery, reporter, control. All, unless some are named. With the embedded log one process runs all of them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Role>,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.node.config)?;
    let has_secret_names = config.dns_lists.iter().any(|list| list.key.is_some());
    crate::logging::start_with(config.log_format, &config.log_filter, has_secret_names)?;
    let mut pipeline =
        crate::pipeline::start(&config, Roles::only(&arguments.only), Arc::new(SystemClock)).await?;
    for address in &pipeline.smtp {
        tracing::info!(%address, "taking mail");
    }
    if let Some(address) = pipeline.http {
        tracing::info!(%address, "metrics and health");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        error = pipeline.failed() => return Err(error),
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    tracing::info!("stopping");
    pipeline.stop().await;
    tracing::info!("stopped");
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    node: Node,
}

pub(super) fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.node.config)?;
    if let Some(tls) = &config.tls {
        ingress::tls::Certificate::load(tls)?;
    }
    let classifier = crate::pipeline::classifier(&config)?;
    println!("content classifier {}", classifier.version());
    if config.cluster_key_file.exists() {
        let key = control::cluster_key::load_or_create(&config.cluster_key_file)?;
        println!("cluster key {}", key.fingerprint());
    } else {
        println!("cluster key: {} will be made at the first start", config.cluster_key_file.display());
    }
    println!(
        "{} is good: node {}, host name {}",
        arguments.node.config.display(),
        config.node,
        config.hostname
    );
    match &config.log {
        LogEngine::Embedded { .. } => {
            println!("  keeps the log in {}", config.data_dir.join("log").display());
        }
        LogEngine::Kafka(kafka) => println!(
            "  keeps the log on Kafka: {}, {} partitions, {} copies, {}",
            kafka.brokers.join(", "),
            kafka.partitions,
            kafka.replication,
            match (&kafka.tls, &kafka.sasl) {
                (None, None) => "without TLS and password".to_owned(),
                (Some(_), None) => "with TLS".to_owned(),
                (None, Some(sasl)) => format!("{} as {} WITHOUT TLS", sasl.mechanism.name(), sasl.username),
                (Some(_), Some(sasl)) => format!("with TLS, {} as {}", sasl.mechanism.name(), sasl.username),
            }
        ),
    }
    for listener in &config.listeners {
        println!("  takes mail at {} ({:?})", listener.bind, listener.tls);
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn status(arguments: StatusArguments) -> anyhow::Result<()> {
    let answer: StatusAnswer = ask::client(&arguments.node)?.get("/v1/status", &[]).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    println!("{} runs Mailweir {}", answer.node, answer.version);
    match &answer.reason {
        None => println!("takes mail: yes"),
        Some(reason) => println!("takes mail: no, {reason}"),
    }
    println!(
        "queue: {} entries, {} recipients{}",
        answer.queue_entries,
        answer.queue_recipients,
        answer.queue_oldest.map_or_else(String::new, |at| format!(", oldest of {}", time(at)))
    );
    for node in &answer.unattended_lanes {
        println!("queue: nobody works on the lane of {node}: start it, or `mailweir lane move` it");
    }
    println!("quarantine: {} messages", answer.quarantined);
    let mut table = Table::new(&["GROUP", "TOPIC", "BEHIND"]);
    for lag in &answer.lag {
        table.row(vec![
            lag.group.clone(),
            lag.topic.to_string(),
            lag.records.map_or_else(|| "?".to_owned(), |n| n.to_string()),
        ]);
    }
    print!("{table}");
    if answer.accepting { Ok(()) } else { Err(anyhow::anyhow!("the node takes no mail")) }
}

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// A directory on the node that is not there yet, or empty.
    directory: PathBuf,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn backup(arguments: BackupArguments) -> anyhow::Result<()> {
    let dir = std::path::absolute(&arguments.directory)?;
    let answer: BackupAnswer =
        ask::client(&arguments.node)?.post("/v1/backup", &DirectoryRequest { dir }).await?;
    println!(
        "The log was copied to {}. Keep the cluster key ({}) with it.",
        answer.dir.display(),
        Config::load(&arguments.node.config)?.cluster_key_file.display()
    );
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// What `mailweir backup` wrote.
    directory: PathBuf,
    #[command(flatten)]
    node: Node,
}

pub(super) fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.node.config)?;
    std::fs::create_dir_all(&config.data_dir)?;
    crate::restore::restore(&arguments.directory, &config.data_dir)?;
    println!("The log is restored; start the node.");
    Ok(())
}
