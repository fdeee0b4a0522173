//! `lock`, `unlock`, `reset`, `identities`.

use clap::Args;
use control::api::{CommandOutcome, HeldAnswer, IdentitiesAnswer, LockRequest, UnlockRequest};

use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct LockArguments {
    /// The outgoing user: its login, or the range of an IP user.
    user: String,
    /// Only this identity of the user.
    #[arg(long)]
    identity: Option<String>,
    /// Unlock by itself after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Why; the client reads it in the refusal.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn lock(arguments: LockArguments) -> anyhow::Result<()> {
    let request = LockRequest {
        user: arguments.user,
        identity: arguments.identity,
        minutes: arguments.minutes,
        reason: arguments.reason,
    };
    let outcome: CommandOutcome = ask::client(&arguments.node)?.post("/v1/lock", &request).await?;
    print_outcome(&outcome)
}

#[derive(Debug, Args)]
pub(super) struct UnlockArguments {
    /// The outgoing user: its login, or the range of an IP user.
    user: String,
    /// Only this identity of the user.
    #[arg(long)]
    identity: Option<String>,
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn unlock(arguments: UnlockArguments) -> anyhow::Result<()> {
    let request =
        UnlockRequest { user: arguments.user, identity: arguments.identity, reason: arguments.reason };
    let outcome: CommandOutcome = ask::client(&arguments.node)?.post("/v1/unlock", &request).await?;
    print_outcome(&outcome)
}

pub(super) async fn reset(arguments: UnlockArguments) -> anyhow::Result<()> {
    let request =
        UnlockRequest { user: arguments.user, identity: arguments.identity, reason: arguments.reason };
    let outcome: CommandOutcome = ask::client(&arguments.node)?.post("/v1/reset", &request).await?;
    print_outcome(&outcome)
}

/// Says what came of a command; a refusal is an error.
pub(super) fn print_outcome(outcome: &CommandOutcome) -> anyhow::Result<()> {
    if outcome.dry_run {
        println!("{} would be changed.", outcome.matched);
    } else {
        println!("{} of {} changed.", outcome.affected, outcome.matched);
    }
    outcome.text.iter().for_each(|line| println!("  {line}"));
    if outcome.pending > 0 {
        println!(
            "  {} given, but not confirmed yet: the worker is behind or down, and will do it",
            outcome.pending
        );
    }
    if outcome.refused > 0 {
        anyhow::bail!("{} refused", outcome.refused);
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct IdentitiesArguments {
    /// Seen in this time span only, as 10m.
    #[arg(long)]
    since: Option<String>,
    /// Of this outgoing user only.
    #[arg(long)]
    user: Option<String>,
    /// Lines at most.
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn identities(arguments: IdentitiesArguments) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(arguments.since.map(|since| ("since", since)));
    query.extend(arguments.user.map(|user| ("user", user)));
    query.extend(arguments.limit.map(|limit| ("limit", limit.to_string())));
    let answer: IdentitiesAnswer = ask::client(&arguments.node)?.get("/v1/identities", &query).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    let mut table =
        Table::new(&["USER", "IDENTITY", "FOUND BY", "LAST SEEN (UTC)", "RELEASED", "BLOCKED", "LOCK"]);
    for row in &answer.identities {
        let lock = row
            .lock
            .as_ref()
            .map_or_else(|| "-".to_owned(), |lock| format!("by {}: {}", lock.by, lock.reason));
        let identity = row.identity.as_ref().map_or_else(String::new, ToString::to_string);
        table.row(vec![
            row.user.to_string(),
            identity,
            row.identity_source.clone(),
            time(row.last_seen),
            row.released.to_string(),
            row.quarantined.to_string(),
            lock,
        ]);
    }
    print!("{table}");
    println!("\n{} identities; found by:", answer.total);
    let mut table = Table::new(&["RULE", "IDENTITIES", "MESSAGES"]);
    for coverage in &answer.coverage {
        table.row(vec![
            coverage.identity_source.clone(),
            coverage.identities.to_string(),
            coverage.messages.to_string(),
        ]);
    }
    print!("{table}");
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct HeldArguments {
    /// Of this outgoing user only.
    #[arg(long)]
    user: Option<String>,
    /// Lines at most.
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn held(arguments: HeldArguments) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(arguments.user.map(|user| ("user", user)));
    query.extend(arguments.limit.map(|limit| ("limit", limit.to_string())));
    let answer: HeldAnswer = ask::client(&arguments.node)?.get("/v1/held", &query).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    let mut table = Table::new(&["ID", "SINCE (UTC)", "USER", "IDENTITY", "RECIPIENTS", "WHY"]);
    for row in &answer.rows {
        table.row(vec![
            row.message.id.to_string(),
            time(row.since),
            row.message.user.to_string(),
            row.message.identity.to_string(),
            row.recipients.to_string(),
            row.why.clone(),
        ]);
    }
    print!("{table}");
    println!("\n{} wait.", answer.total);
    Ok(())
}
