//! `apply`, `settings`, `dkim`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use control::api::{
    ApplyAnswer, ApplyRequest, ChangesAnswer, DkimGenerate, DkimImport, DkimKeyInfo, DkimKeys, DkimRemove,
    PlanAnswer, SettingsAnswer, SettingsFile,
};

use super::table::{Table, time};
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct ApplyArguments {
    /// The settings, as in contrib/settings.toml. What the file does not name is removed (generated DKIM keys stay).
    file: PathBuf,
    /// Do not ask before applying.
    #[arg(long)]
    yes: bool,
    /// Only show the difference.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn apply(arguments: ApplyArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let file = SettingsFile::load(&arguments.file)
        .map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", arguments.file.display()))?;
    let plan: PlanAnswer = client.post("/v1/settings/plan", &file).await?;
    if plan.diff.is_empty() {
        println!("Nothing to change: the settings are as {} says.", arguments.file.display());
        return Ok(());
    }
    plan.diff.iter().for_each(|entry| println!("{entry}"));
    if arguments.dry_run || !(arguments.yes || ask::confirm(&format!("Apply {} changes?", plan.diff.len()))?)
    {
        println!("Nothing was changed.");
        return Ok(());
    }
    let answer: ApplyAnswer =
        client.post("/v1/settings/apply", &ApplyRequest { file, expected_version: plan.version }).await?;
    let in_force =
        if answer.in_force { "and in force" } else { "and durable, but not in force on this node yet" };
    println!("{} changes applied {in_force}.", answer.diff.len());
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct SettingsArguments {
    /// Show who changed what and when, newest first.
    #[arg(long)]
    changes: bool,
    /// With --changes: of this time span only, as 7d.
    #[arg(long)]
    since: Option<String>,
    /// With --changes: of this setting only, as domain/customer.example, or of all that begin so.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn show(arguments: SettingsArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    if !arguments.changes {
        let answer: SettingsAnswer = client.get("/v1/settings", &[]).await?;
        if arguments.output.json {
            return ask::print_json(&answer);
        }
        for row in answer.settings {
            println!("{}\n    {}", row.key, row.setting);
        }
        return Ok(());
    }
    let mut query = Vec::new();
    query.extend(arguments.since.map(|since| ("since", since)));
    query.extend(arguments.key.map(|key| ("key", key)));
    let answer: ChangesAnswer = client.get("/v1/changes", &query).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    let mut table = Table::new(&["WHEN (UTC)", "WHO", "SETTING", "BEFORE", "AFTER"]);
    let text =
        |value: Option<serde_json::Value>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for change in answer.changes {
        table.row(vec![time(change.at), change.by, change.key, text(change.before), text(change.after)]);
    }
    print!("{table}");
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct DkimArguments {
    #[command(subcommand)]
    verb: DkimVerb,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum DkimVerb {
    /// The keys, each with the DNS record to publish.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Make a key.
    Generate {
        domain: String,
        selector: String,
        /// rsa (2048 bits), rsa4096 or ed25519.
        #[arg(long, default_value = "rsa")]
        algorithm: String,
    },
    /// Remove a key; publish no record for it any more.
    Remove { domain: String, selector: String },
    /// Import an unencrypted private key in PEM.
    Import { domain: String, selector: String, file: PathBuf },
}

pub(super) async fn dkim(arguments: DkimArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    match arguments.verb {
        DkimVerb::List { output } => {
            let answer: DkimKeys = client.get("/v1/dkim", &[]).await?;
            if output.json {
                return ask::print_json(&answer);
            }
            answer.keys.iter().for_each(print_key);
        }
        DkimVerb::Generate { domain, selector, algorithm } => {
            let request = DkimGenerate { domain, selector, algorithm: Some(algorithm) };
            print_key(&client.post("/v1/dkim/generate", &request).await?);
        }
        DkimVerb::Remove { domain, selector } => {
            let removed = format!("{selector}._domainkey.{domain}");
            let _: serde_json::Value =
                client.post("/v1/dkim/remove", &DkimRemove { domain, selector }).await?;
            println!("{removed} is removed");
        }
        DkimVerb::Import { domain, selector, file } => {
            let pem = std::fs::read_to_string(&file)
                .map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", file.display()))?;
            print_key(&client.post("/v1/dkim/import", &DkimImport { domain, selector, pem }).await?);
        }
    }
    Ok(())
}

fn print_key(key: &DkimKeyInfo) {
    println!("{} ({:?})\n  publish this record:\n  {}", key.record.name, key.algorithm, key.record.zone_file);
    key.notes.iter().for_each(|note| println!("  note: {note}"));
}
