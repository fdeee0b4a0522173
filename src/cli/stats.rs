//! `stats`: sums per domain, user, identity, From domain, destination, classification or hour.

use clap::Args;
use reporter::store::query::StatsLine;

use super::table::Table;
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct StatsArguments {
    /// domain, user, identity, from_domain, destination, classification or hour.
    #[arg(long, default_value = "domain")]
    group_by: String,
    #[arg(long)]
    domain: Option<String>,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    identity: Option<String>,
    /// Of this time span, as 24h.
    #[arg(long)]
    since: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn stats(arguments: StatsArguments) -> anyhow::Result<()> {
    let mut query = vec![("group_by", arguments.group_by.clone())];
    query.extend(arguments.domain.map(|v| ("domain", v)));
    query.extend(arguments.user.map(|v| ("user", v)));
    query.extend(arguments.identity.map(|v| ("identity", v)));
    if let Some(since) = &arguments.since {
        query.push(("since", ask::since(since)?.to_string()));
    }
    let lines: Vec<StatsLine> = ask::client(&arguments.node)?.get("/v1/stats", &query).await?;
    if arguments.output.json {
        return ask::print_json(&lines);
    }
    let group = arguments.group_by.to_uppercase();
    let mut table = Table::new(&[
        &group,
        "MESSAGES",
        "RECIPIENTS",
        "BYTES",
        "QUARANTINED",
        "DELIVERED",
        "FAILED",
        "REMOVED",
        "DEFERRALS",
    ]);
    for line in lines {
        let numbers = [
            line.messages,
            line.recipients,
            line.bytes,
            line.quarantined,
            line.delivered,
            line.failed,
            line.removed,
            line.deferrals,
        ];
        table.row(std::iter::once(line.group).chain(numbers.iter().map(ToString::to_string)).collect());
    }
    print!("{table}");
    Ok(())
}
