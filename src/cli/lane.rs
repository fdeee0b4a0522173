//! `lane`: the queue of a node as a whole.

use clap::{Args, Subcommand};
use control::api::{CommandOutcome, LaneMoveRequest};

use super::senders::print_outcome;
use super::{Node, ask};

#[derive(Debug, Args)]
pub(super) struct LaneArguments {
    #[command(subcommand)]
    verb: LaneVerb,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum LaneVerb {
    /// Give the queue of a node that is gone for good to another one. Refused while the first is at work, and when no
    /// delivery of the second answers. Should the first come back, it finds nothing to send. Takes half a minute. Interrupted,
    /// give it again.
    Move {
        /// The node that is gone.
        from: String,
        /// The node that delivers in its place.
        to: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn lane(arguments: LaneArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let LaneVerb::Move { from, to, yes } = arguments.verb;
    let dry = LaneMoveRequest { from: from.clone(), to: to.clone(), dry_run: true };
    let would: CommandOutcome = client.post("/v1/lane/move", &dry).await?;
    let question = format!(
        "Move {} entries from the lane of {from} to that of {to}? Is {from} stopped for good?",
        would.matched
    );
    if !yes && !ask::confirm(&question)? {
        println!("Nothing was moved.");
        return Ok(());
    }
    let request = LaneMoveRequest { from, to, dry_run: false };
    let outcome: CommandOutcome = client.post("/v1/lane/move", &request).await?;
    print_outcome(&outcome)
}
