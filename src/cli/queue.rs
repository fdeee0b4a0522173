//! `queue`: see and control what is still to be delivered.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use control::api::{
    CommandOutcome, DirectoryRequest, ExportAnswer, QueueAnswer, QueueRequest, RerouteRequest,
};
use schemas::commands::QueueSelect;

use super::senders::print_outcome;
use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct QueueArguments {
    #[command(subcommand)]
    verb: Option<QueueVerb>,
    #[command(flatten)]
    select: Select,
    /// Lines at most.
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

/// Which entries; without any of these, all.
#[derive(Debug, Default, Args)]
struct Select {
    /// Our message id.
    #[arg(long, global = true)]
    id: Option<String>,
    #[arg(long, global = true)]
    user: Option<String>,
    #[arg(long, global = true)]
    domain: Option<String>,
    #[arg(long, global = true)]
    identity: Option<String>,
    /// Reverse-path, or <>.
    #[arg(long, global = true)]
    reverse_path: Option<String>,
    #[arg(long, global = true)]
    recipient: Option<String>,
    /// Where it goes: the domain, or the route in its place.
    #[arg(long, global = true)]
    site: Option<String>,
}

#[derive(Debug, Subcommand)]
enum QueueVerb {
    /// Try now.
    Retry,
    /// Do not try until resumed.
    Hold,
    /// End a hold.
    Resume,
    /// Remove without a bounce. Shows the count and asks, unless --yes.
    Remove {
        #[arg(long)]
        yes: bool,
    },
    /// Deliver to HOST:PORT in place of the domain's servers.
    Reroute { host: String },
    /// Write every undelivered message as .eml, with its envelope.
    Export { directory: PathBuf },
}

impl Select {
    fn build(&self) -> anyhow::Result<QueueSelect> {
        Ok(QueueSelect {
            message_id: self.id.as_deref().map(str::parse).transpose()?,
            user: self.user.clone().map(schemas::UserId),
            domain: self.domain.as_deref().map(schemas::Domain::parse).transpose()?,
            identity: self.identity.clone().map(schemas::verdict::Identity),
            reverse_path: self.reverse_path.clone(),
            recipient: self.recipient.clone(),
            site: self.site.clone(),
        })
    }
}

pub(super) async fn queue(arguments: QueueArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let select = arguments.select.build()?;
    let simple = |select| QueueRequest { select, dry_run: false, expected: None };
    let outcome: CommandOutcome = match arguments.verb {
        None => return list(&client, &arguments.select, arguments.limit, arguments.output).await,
        Some(QueueVerb::Export { directory }) => {
            let dir = std::path::absolute(directory)?;
            let answer: ExportAnswer = client.post("/v1/queue/export", &DirectoryRequest { dir }).await?;
            println!("{} messages written to {}", answer.written, answer.dir.display());
            answer.failed.iter().for_each(|line| println!("  failed: {line}"));
            return if answer.failed.is_empty() {
                Ok(())
            } else {
                Err(anyhow::anyhow!("some could not be read"))
            };
        }
        Some(QueueVerb::Retry) => client.post("/v1/queue/retry", &simple(select)).await?,
        Some(QueueVerb::Hold) => client.post("/v1/queue/hold", &simple(select)).await?,
        Some(QueueVerb::Resume) => client.post("/v1/queue/resume", &simple(select)).await?,
        Some(QueueVerb::Reroute { host }) => {
            let request = RerouteRequest { select, dry_run: false, expected: None, route: host };
            client.post("/v1/queue/reroute", &request).await?
        }
        Some(QueueVerb::Remove { yes }) => {
            let dry = QueueRequest { select: select.clone(), dry_run: true, expected: None };
            let would: CommandOutcome = client.post("/v1/queue/remove", &dry).await?;
            if !yes && !ask::confirm(&format!("Remove {} entries from the queue?", would.matched))? {
                println!("Nothing was removed.");
                return Ok(());
            }
            client
                .post(
                    "/v1/queue/remove",
                    &QueueRequest { select, dry_run: false, expected: Some(would.matched) },
                )
                .await?
        }
    };
    print_outcome(&outcome)
}

async fn list(
    client: &crate::socket::Client,
    select: &Select,
    limit: Option<u32>,
    output: Output,
) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(select.id.clone().map(|v| ("message_id", v)));
    query.extend(select.user.clone().map(|v| ("user", v)));
    query.extend(select.domain.clone().map(|v| ("domain", v)));
    query.extend(select.identity.clone().map(|v| ("identity", v)));
    query.extend(select.reverse_path.clone().map(|v| ("reverse_path", v)));
    query.extend(select.recipient.clone().map(|v| ("recipient", v)));
    query.extend(select.site.clone().map(|v| ("site", v)));
    query.extend(limit.map(|limit| ("limit", limit.to_string())));
    let answer: QueueAnswer = client.get("/v1/queue", &query).await?;
    if output.json {
        return ask::print_json(&answer);
    }
    let mut table = Table::new(&[
        "ID",
        "QUEUED (UTC)",
        "TRIES",
        "NEXT (UTC)",
        "REVERSE-PATH",
        "RECIPIENTS",
        "LAST REPLY",
    ]);
    for entry in &answer.entries {
        let next = if entry.held { "on hold".to_owned() } else { time(entry.next_attempt) };
        let recipients: Vec<String> = entry.recipients.iter().map(|r| r.forward_path.to_string()).collect();
        let reply = entry
            .recipients
            .first()
            .and_then(|r| r.last_reply.as_ref())
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row(vec![
            entry.message.id.to_string(),
            time(entry.queued_at),
            entry.tries.to_string(),
            next,
            format!("<{}>", entry.message.reverse_path),
            recipients.join(" "),
            reply,
        ]);
    }
    print!("{table}");
    println!("\n{} entries, {} recipients; by site:", answer.total, answer.recipients);
    let mut table = Table::new(&["SITE", "RECIPIENTS", "OLDEST (UTC)", "NEXT (UTC)", "REPLY"]);
    for total in &answer.totals {
        table.row(vec![
            total.site.clone(),
            total.recipients.to_string(),
            time(total.oldest),
            time(total.next_attempt),
            total.example.clone(),
        ]);
    }
    print!("{table}");
    Ok(())
}
