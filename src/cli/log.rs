//! `log`: search the message log.

use clap::Args;
use reporter::store::query::LogLine;

use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Our id, the client's own queue id, or a Message-ID.
    id: Option<String>,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    domain: Option<String>,
    #[arg(long)]
    identity: Option<String>,
    /// A whole address, or @domain.
    #[arg(long)]
    recipient: Option<String>,
    /// A whole address, or <>.
    #[arg(long)]
    reverse_path: Option<String>,
    /// Code, as spam.
    #[arg(long)]
    classification: Option<String>,
    /// quarantined, queued, delivered, failed or removed.
    #[arg(long)]
    outcome: Option<String>,
    /// Accepted in this time span, as 2h.
    #[arg(long)]
    since: Option<String>,
    /// Lines at most, 100 when not given.
    #[arg(long)]
    limit: Option<u32>,
    /// Also mail of Mailweir itself: bounces, reports.
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn log(arguments: LogArguments) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(arguments.id.map(|v| ("id", v)));
    query.extend(arguments.user.map(|v| ("user", v)));
    query.extend(arguments.domain.map(|v| ("domain", v)));
    query.extend(arguments.identity.map(|v| ("identity", v)));
    query.extend(arguments.recipient.map(|v| ("recipient", v)));
    query.extend(arguments.reverse_path.map(|v| ("reverse_path", v)));
    query.extend(arguments.classification.map(|v| ("classification", v)));
    query.extend(arguments.outcome.map(|v| ("outcome", v)));
    query.extend(arguments.limit.map(|v| ("limit", v.to_string())));
    if let Some(since) = &arguments.since {
        query.push(("since", ask::since(since)?.to_string()));
    }
    if arguments.own {
        query.push(("own", "true".to_owned()));
    }
    let lines: Vec<LogLine> = ask::client(&arguments.node)?.get("/v1/log", &query).await?;
    if arguments.output.json {
        return ask::print_json(&lines);
    }
    let mut table = Table::new(&[
        "ACCEPTED (UTC)",
        "ID",
        "IDENTITY",
        "REVERSE-PATH",
        "RECIPIENT",
        "CLASS",
        "OUTCOME",
        "REPLY",
    ]);
    for line in lines {
        table.row(vec![
            time(line.accepted_at),
            line.message_id,
            line.identity,
            format!("<{}>", line.reverse_path),
            line.forward_path,
            line.classification,
            line.outcome,
            line.reply.unwrap_or_default(),
        ]);
    }
    print!("{table}");
    Ok(())
}
