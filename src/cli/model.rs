//! `mailweir model`: what the content classifier has learnt from releases and confirmations.

use clap::{Args, Subcommand};
use control::api::{ModelAnswer, RollbackRequest};

use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    #[command(subcommand)]
    verb: Option<ModelVerb>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum ModelVerb {
    /// Go back to an earlier version; 0 is the model as it was trained. What was learnt since stays listed.
    Rollback { version: u64 },
}

pub(super) async fn model(arguments: ModelArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let answer: ModelAnswer = match arguments.verb {
        None => client.get("/v1/model", &[]).await?,
        Some(ModelVerb::Rollback { version }) => {
            client.post("/v1/model/rollback", &RollbackRequest { to: version }).await?
        }
    };
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    if answer.versions.is_empty() {
        println!("Nothing was learnt yet: the model is as it was trained.");
        return Ok(());
    }
    let mut table = Table::new(&["VERSION", "BASE", "AT", "LEARNT", "AGREED", "CAPPED", "WEIGHTS", "WHY"]);
    for version in &answer.versions {
        table.row(vec![
            version.number.to_string(),
            version.base.clone(),
            time(version.at),
            version.learnt.to_string(),
            version.agreed.to_string(),
            version.capped.to_string(),
            version.weights.to_string(),
            version.why.clone(),
        ]);
    }
    print!("{table}");
    let mut influence: Vec<_> = answer.influence.iter().collect();
    influence.sort_by(|one, other| other.1.total_cmp(one.1));
    for (domain, moved) in influence.into_iter().take(10) {
        println!("{domain} has corrected {moved:.1}");
    }
    Ok(())
}
