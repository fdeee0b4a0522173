//! `quarantine`: see, release, confirm or remove what was held back.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use control::api::{CommandOutcome, QuarantineAnswer, QuarantineDetails, QuarantineRequest};

use super::senders::print_outcome;
use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct QuarantineArguments {
    #[command(subcommand)]
    verb: Option<QuarantineVerb>,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    domain: Option<String>,
    #[arg(long)]
    identity: Option<String>,
    /// Code, as spam.
    #[arg(long)]
    classification: Option<String>,
    /// in (the default), released, confirmed, removed or all.
    #[arg(long)]
    state: Option<String>,
    /// Lines at most.
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum QuarantineVerb {
    /// Deliver them after all.
    Release { ids: Vec<String> },
    /// They are spam: keep them out, and remember it.
    Confirm { ids: Vec<String> },
    /// Take them out of quarantine without delivering.
    Remove { ids: Vec<String> },
    /// Why one was held back.
    Show { id: String },
    /// The message as it came, to standard output or a file.
    Eml {
        id: String,
        #[arg(long)]
        to: Option<PathBuf>,
    },
}

pub(super) async fn quarantine(arguments: QuarantineArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let (path, ids) = match &arguments.verb {
        None => return list(&client, &arguments).await,
        Some(QuarantineVerb::Show { id }) => {
            let details: QuarantineDetails = client.get(&format!("/v1/quarantine/{id}"), &[]).await?;
            if arguments.output.json {
                return ask::print_json(&details);
            }
            print_details(&details);
            return Ok(());
        }
        Some(QuarantineVerb::Eml { id, to }) => {
            let message = client.get_bytes(&format!("/v1/quarantine/{id}/eml")).await?;
            match to {
                Some(file) => std::fs::write(file, &message)?,
                None => std::io::stdout().lock().write_all(&message)?,
            }
            return Ok(());
        }
        Some(QuarantineVerb::Release { ids }) => ("/v1/quarantine/release", ids),
        Some(QuarantineVerb::Confirm { ids }) => ("/v1/quarantine/confirm", ids),
        Some(QuarantineVerb::Remove { ids }) => ("/v1/quarantine/remove", ids),
    };
    if ids.is_empty() {
        anyhow::bail!("name at least one message id, as `mailweir quarantine` lists them");
    }
    let message_ids = ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let request = QuarantineRequest { message_ids, ..QuarantineRequest::default() };
    let outcome: CommandOutcome = client.post(path, &request).await?;
    print_outcome(&outcome)
}

async fn list(client: &crate::socket::Client, arguments: &QuarantineArguments) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(arguments.user.clone().map(|v| ("user", v)));
    query.extend(arguments.domain.clone().map(|v| ("domain", v)));
    query.extend(arguments.identity.clone().map(|v| ("identity", v)));
    query.extend(arguments.classification.clone().map(|v| ("classification", v)));
    query.extend(arguments.state.clone().map(|v| ("state", v)));
    query.extend(arguments.limit.map(|v| ("limit", v.to_string())));
    let answer: QuarantineAnswer = client.get("/v1/quarantine", &query).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    let mut table =
        Table::new(&["ID", "SINCE (UTC)", "STATE", "CLASS", "USER", "IDENTITY", "RECIPIENT", "SUBJECT"]);
    for row in &answer.messages {
        let recipient = row.recipients.first().map(ToString::to_string).unwrap_or_default();
        table.row(vec![
            row.message.id.to_string(),
            time(row.since),
            format!("{:?}", row.state).to_lowercase(),
            row.message.classification.to_string(),
            row.message.user.to_string(),
            row.message.identity.to_string(),
            recipient,
            row.message.subject.clone().unwrap_or_default(),
        ]);
    }
    print!("{table}");
    println!("\n{} messages", answer.total);
    Ok(())
}

fn print_details(details: &QuarantineDetails) {
    let message = &details.row.message;
    println!("{} is in quarantine as {}: {}", message.id, message.classification, details.explanation);
    println!("user {}, identity {}, reverse-path <{}>", message.user, message.identity, message.reverse_path);
    let mut table = Table::new(&["SYMBOL", "WEIGHT", "EVIDENCE"]);
    for symbol in &details.symbols {
        table.row(vec![symbol.name.clone(), format!("{:.2}", symbol.weight), symbol.evidence.clone()]);
    }
    print!("{table}");
}
