//! `mailweir demo`: the whole journey on this machine, with nothing set up before.
//!
//! Boots the pipeline with a receiving server and a name server of its own, sends a mixed batch through SMTP as three
//! outgoing users, waits until every message has its one terminal outcome, and shows what became of each kind.

mod certificate;
mod dns;
mod messages;
mod receiver;
mod report;
mod sender;
mod site;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use eventlog::SystemClock;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use messages::Item;
use sender::Answer;
use site::Site;

/// Every message must have its outcome within this.
const DEADLINE: Duration = Duration::from_secs(45);

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Keep running afterwards, to look around with the other verbs.
    #[arg(long)]
    stay: bool,
    /// How much mail: rounds of five to nine messages.
    #[arg(long, default_value_t = 16)]
    rounds: usize,
}

/// Runs the demo. Exit status 0: every message reached the outcome it must have.
///
/// # Errors
/// When something could not be started.
pub async fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    crate::logging::start(crate::config::LogFormat::Text, "warn")?;
    // Whoever installed one before is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shutdown = CancellationToken::new();
    let site = Site::set_up(shutdown.clone()).await?;
    let config = Config::load(&site.config_file)?;
    let mut pipeline =
        crate::pipeline::start(&config, crate::roles::Roles::all(), Arc::new(SystemClock)).await?;
    let metrics = pipeline.http.map_or_else(String::new, |address| address.to_string());
    println!(
        "Mailweir takes mail at {} and serves metrics at http://{metrics}/metrics",
        join(&pipeline.smtp)
    );
    site.apply_settings(&config).await?;
    let client_key = messages::ClientKey::generate()?;
    site.publish_client_key(&client_key)?;
    let items =
        messages::batch(arguments.rounds.clamp(1, 1000), eventlog::Clock::now(&SystemClock), &client_key)?;
    let address = pipeline.smtp[0];
    let (answers, outcome) = tokio::select! {
        error = pipeline.failed() => return Err(error),
        done = send_and_wait(&items, address, &config, &site) => done?,
    };
    let summary = report::summarise(&items, &answers, &outcome, &site).await;
    print!("{summary}");
    site.print_ways_on(&config);
    if arguments.stay {
        println!("Running until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    pipeline.stop().await;
    shutdown.cancel();
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn join(addresses: &[std::net::SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Sends the batch, then waits until the log and the receiving server agree that it is done.
async fn send_and_wait(
    items: &[Item],
    address: std::net::SocketAddr,
    config: &Config,
    site: &Site,
) -> anyhow::Result<(Vec<Answer>, report::Outcome)> {
    let bar = ProgressBar::new(items.len() as u64);
    bar.set_style(
        ProgressStyle::with_template("{msg:<10} [{bar:40}] {pos}/{len} {elapsed}")?.progress_chars("=> "),
    );
    bar.set_message("sending");
    let answers = sender::send_all(items, address, &bar).await;
    bar.set_message("delivering");
    bar.set_position(0);
    let began = Instant::now();
    let outcome = loop {
        let outcome = report::Outcome::read(config, site, items, &answers).await?;
        bar.set_position(outcome.finished as u64);
        if outcome.finished == items.len() && outcome.own_mail_is_done() || began.elapsed() > DEADLINE {
            break outcome;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    bar.finish_and_clear();
    Ok((answers, outcome))
}
