//! The command line: one verb a file; what each verb does is documented by its `--help`.

mod ask;
mod lane;
mod local;
mod log;
mod message;
mod migrate;
mod model;
mod quarantine;
mod queue;
mod rewrite;
mod score;
mod senders;
mod settings;
mod stats;
pub mod table;
mod train;
mod whatif;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Where a node's configuration is looked for.
const DEFAULT_CONFIG: &str = "/etc/mailweir/mailweir.toml";

#[derive(Debug, Parser)]
#[command(name = "mailweir", version, about = "Outgoing mail filter and relay", propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// Which node a verb talks to.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// Configuration of the node; its control socket is `data_dir/control.sock`.
    #[arg(long, short, default_value = DEFAULT_CONFIG, env = "MAILWEIR_CONFIG", global = true)]
    config: PathBuf,
}

/// How a verb prints.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print JSON in place of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the whole journey on this machine, in under a minute: two domains, three users, a batch of mail.
    Demo(crate::demo::DemoArguments),
    /// Run the node.
    Run(local::RunArguments),
    /// Check a configuration, and with it what it names, without starting anything.
    Check(local::CheckArguments),
    /// Make the settings what a file says; shows the difference first.
    Apply(settings::ApplyArguments),
    /// Show the settings in force, or who changed what and when.
    Settings(settings::SettingsArguments),
    /// Make, import and show DKIM keys, with the DNS record to publish.
    Dkim(settings::DkimArguments),
    /// Judge messages in files without sending them.
    Score(score::ScoreArguments),
    /// Train the content classifier with a site's own mail.
    Train(train::TrainArguments),
    /// What the content classifier has learnt from releases and confirmations; back to an earlier version.
    Model(model::ModelArguments),
    /// Try other settings on the mail of the last days: who would be blocked, who would pass, whom a limit would hit.
    #[command(name = "whatif")]
    WhatIf(whatif::WhatIfArguments),
    /// One message's whole story, from the client's connection to every remote reply.
    Trace(message::TraceArguments),
    /// Search the message log: one line per recipient outcome.
    Log(log::LogArguments),
    /// Statistics per domain, user, identity, From domain, destination or hour.
    Stats(stats::StatsArguments),
    /// Make the statistics of a month again from what they are made of (ClickHouse).
    Rebuild(rewrite::RebuildArguments),
    /// Erase an address from statistics and the message log.
    Erase(rewrite::EraseArguments),
    /// See and control what is still to be delivered.
    Queue(queue::QueueArguments),
    /// Move the queue of a node that is gone to another one.
    Lane(lane::LaneArguments),
    /// See, release, confirm or remove what was held back.
    Quarantine(quarantine::QuarantineArguments),
    /// What waits for a limit of its user, or for an engine that is down; `quarantine release` and `quarantine remove` take these ids, too.
    Held(senders::HeldArguments),
    /// Lock an outgoing user or one of its identities.
    Lock(senders::LockArguments),
    /// Unlock an outgoing user or one of its identities.
    Unlock(senders::UnlockArguments),
    /// Begin anew with what counts against an outgoing user or one of its identities: limits, blocks, bounces, automatic
    /// unlocks. A lock stays.
    Reset(senders::UnlockArguments),
    /// Who sends: identities by user, and which header they were found by.
    Identities(senders::IdentitiesArguments),
    /// Whether the node takes in mail, and how far each role is behind.
    Status(local::StatusArguments),
    /// Copy the log to a directory while the node runs.
    Backup(local::BackupArguments),
    /// Put a backup in place of the log of a stopped node.
    Restore(local::RestoreArguments),
    /// Move the log of a stopped node to Kafka: queue, quarantine, locks, settings, history. Interrupted, it begins anew.
    Migrate(migrate::MigrateArguments),
}

/// `mailweir log | head` ends quietly when `head` has enough, as every other command does. Not for a node: it must outlive
/// whoever reads its output.
#[allow(unsafe_code)] // sets a signal's default action, before any thread is started
fn end_with_the_reader() {
    // SAFETY: SIG_DFL installs no handler, so nothing can run in a signal's context.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Runs the verb. Exit status: 0 done, 1 failed, 2 wrong arguments.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    if !matches!(arguments.verb, Verb::Run(_) | Verb::Demo(_)) {
        end_with_the_reader();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mailweir: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments.verb)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mailweir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Demo(arguments) => return Box::pin(crate::demo::run(arguments)).await,
        Verb::Run(arguments) => Box::pin(local::run(arguments)).await?,
        Verb::Check(arguments) => local::check(&arguments).await?,
        Verb::Apply(arguments) => settings::apply(arguments).await?,
        Verb::Settings(arguments) => settings::show(arguments).await?,
        Verb::Dkim(arguments) => settings::dkim(arguments).await?,
        Verb::Score(arguments) => score::score(&arguments)?,
        Verb::Train(arguments) => train::train(arguments)?,
        Verb::Model(arguments) => model::model(arguments).await?,
        Verb::WhatIf(arguments) => whatif::whatif(arguments).await?,
        Verb::Trace(arguments) => message::trace(arguments).await?,
        Verb::Log(arguments) => log::log(arguments).await?,
        Verb::Stats(arguments) => stats::stats(arguments).await?,
        Verb::Rebuild(arguments) => rewrite::rebuild(arguments).await?,
        Verb::Erase(arguments) => rewrite::erase(arguments).await?,
        Verb::Queue(arguments) => queue::queue(arguments).await?,
        Verb::Lane(arguments) => lane::lane(arguments).await?,
        Verb::Quarantine(arguments) => quarantine::quarantine(arguments).await?,
        Verb::Held(arguments) => senders::held(arguments).await?,
        Verb::Lock(arguments) => senders::lock(arguments).await?,
        Verb::Unlock(arguments) => senders::unlock(arguments).await?,
        Verb::Reset(arguments) => senders::reset(arguments).await?,
        Verb::Identities(arguments) => senders::identities(arguments).await?,
        Verb::Status(arguments) => local::status(arguments).await?,
        Verb::Backup(arguments) => local::backup(arguments).await?,
        Verb::Restore(arguments) => local::restore(&arguments)?,
        Verb::Migrate(arguments) => migrate::migrate(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}
