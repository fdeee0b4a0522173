//! `rebuild`, `erase`: statistics that stand, changed.

use clap::Args;
use reporter::queries::{EraseRequest, RebuildRequest, RewriteAnswer};

use super::{Node, ask};

#[derive(Debug, Args)]
pub(super) struct RebuildArguments {
    /// The month in UTC, as 2026-11.
    month: String,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn rebuild(arguments: RebuildArguments) -> anyhow::Result<()> {
    let request = RebuildRequest { month: arguments.month };
    let _: RewriteAnswer = ask::client(&arguments.node)?.post("/v1/statistics/rebuild", &request).await?;
    println!("Statistics of {} are made again.", request.month);
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct EraseArguments {
    /// An address, as recipient, reverse-path or identity, in any case.
    address: String,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn erase(arguments: EraseArguments) -> anyhow::Result<()> {
    let request = EraseRequest { address: arguments.address };
    let answer: RewriteAnswer = ask::client(&arguments.node)?.post("/v1/statistics/erase", &request).await?;
    println!(
        "{} is erased from {} recipients' rows. The log has it until its retention is over.",
        request.address, answer.rows
    );
    Ok(())
}
