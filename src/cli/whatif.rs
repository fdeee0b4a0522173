//! `whatif`: other settings tried on the mail of the last days.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use clap::Args;
use control::api::SettingsFile;
use schemas::Timestamp;

use super::table::{Table, time};
use super::{Node, Output, ask};
use crate::whatif::answer::{Answer, ChangeKind, Request, Suggestion, Totals, UserRow};

const HELP: &str = "\
Tries settings on the verdicts of the last days and prints who would newly be blocked, who would newly pass and whom a limit
would have kept back. Nothing is applied, sent or written.

FILE is a whole settings file, as for `mailweir apply`: what it does not name counts as removed. Passwords may be left out.

What a verdict stores is enough for thresholds, modes of checks, weights, allow and block lists, From domains, spam_action,
quarantine_response and limits. Where it is not (a check that was off, other blocked extensions), the message itself is judged
again if it is still in the log: for 2 days, in quarantine for 28. What cannot be known is counted apart.

A limit is replayed over what was accepted: what the limits in force refused is not known, and clients would have come back with
what another limit refuses. Locks stay as they were; what newly blocked messages would have locked is not tried.

Examples:
  mailweir whatif --policy new.toml --since 7d
  mailweir whatif --suggest --since 30d           limits from each user's own percentiles, to paste into settings
  mailweir whatif --rescore --model site.bin      another model, on the messages that are still there

Exit status: 0 done, whatever was found; 1 failed; 2 wrong arguments.";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct WhatIfArguments {
    /// The settings to try, as for `mailweir apply`; those in force when not given.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Messages accepted in this time span; verdicts are kept for 90 days.
    #[arg(long, default_value = "7d")]
    since: String,
    /// Messages named for each user, the blocked ones first.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100))]
    examples: u64,
    /// Judge every message again that is still in the log, and no other.
    #[arg(long)]
    rescore: bool,
    /// With --rescore: a model that `mailweir train` wrote, in place of the one in force.
    #[arg(long, value_name = "MODEL", requires = "rescore")]
    model: Option<PathBuf>,
    /// Messages that are read from the log at most.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    max_bodies: u64,
    /// Suggest limits from what each user sends itself.
    #[arg(long)]
    suggest: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn whatif(arguments: WhatIfArguments) -> anyhow::Result<()> {
    if arguments.policy.is_none() && !arguments.rescore && !arguments.suggest {
        anyhow::bail!(
            "nothing to try: name other settings with --policy FILE, or ask for --suggest or --rescore"
        );
    }
    let unreadable =
        |path: &PathBuf, error: std::io::Error| anyhow::anyhow!("{} cannot be read: {error}", path.display());
    let policy = match &arguments.policy {
        Some(path) => Some(SettingsFile::load(path).map_err(|error| unreadable(path, error))?),
        None => None,
    };
    let model = match &arguments.model {
        Some(path) => {
            let octets = std::fs::read(path).map_err(|error| unreadable(path, error))?;
            Some(base64::engine::general_purpose::STANDARD.encode(octets))
        }
        None => None,
    };
    let request = Request {
        policy,
        since: Timestamp(ask::since(&arguments.since)?),
        examples: usize::try_from(arguments.examples)?,
        rescore: arguments.rescore,
        model,
        max_bodies: arguments.max_bodies,
        suggest: arguments.suggest,
    };
    let answer: Answer = ask::client(&arguments.node)?.post("/v1/whatif", &request).await?;
    if arguments.output.json {
        return ask::print_json(&answer);
    }
    print!("{}", report(&answer, arguments.policy.is_some()));
    Ok(())
}

/// The answer for a person. `has_policy`: other settings were tried.
fn report(answer: &Answer, has_policy: bool) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if has_policy && answer.diff.is_empty() {
        line("The settings tried are those in force.".into());
    }
    answer.diff.iter().for_each(|entry| line(entry.to_string()));
    if !answer.not_tried.is_empty() {
        line(format!(
            "Not tried, since only new mail could show what it does: {}",
            answer.not_tried.join(", ")
        ));
    }
    totals(answer).into_iter().for_each(&mut line);
    if !answer.users.is_empty() {
        line(format!("\n{}", users(&answer.users).to_string().trim_end()));
    }
    if answer.users_left_out > 0 {
        line(format!("and {} users more", answer.users_left_out));
    }
    for table in [examples(&answer.users), limits(&answer.users)] {
        if !table.is_empty() {
            line(format!("\n{}", table.to_string().trim_end()));
        }
    }
    if let Some(suggestions) = &answer.suggestions {
        line(format!("\n{}", suggested(suggestions, answer).trim_end()));
    }
    out
}

fn totals(answer: &Answer) -> Vec<String> {
    let Totals { messages, recomputed, from_bodies, unknown, not_read, too_old, .. } = answer.totals;
    let mut lines = vec![format!(
        "{messages} messages since {} (UTC), {recomputed} of them decided again{}.",
        time(answer.since),
        if from_bodies > 0 { format!(", {from_bodies} from the message itself") } else { String::new() }
    )];
    let removed = answer.totals.of_users_without_settings;
    for (count, what) in [
        (unknown, "cannot be decided again: what it takes is not stored, and the messages are gone"),
        (not_read, "were not read: see --max-bodies"),
        (too_old, "verdicts are too old to be recomputed"),
        (removed, "are of users that these settings do not have: they could not send at all"),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    let changes = &answer.totals.changes;
    let named = |what: &str, by: &BTreeMap<String, u64>| {
        let each = by.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
        format!("  {what:<15}{:>8}  {each}", by.values().sum::<u64>())
    };
    let plain = |what: &str, count: u64| format!("  {what:<15}{count:>8}");
    lines.push(named("newly blocked", &changes.newly_blocked).trim_end().to_owned());
    lines.push(named("newly passed", &changes.newly_passed).trim_end().to_owned());
    lines.push(plain("newly suspect", changes.newly_suspect));
    lines.push(plain("over a limit", answer.totals.over_limit));
    lines.push(plain("unchanged", changes.unchanged));
    if !changes.otherwise.is_empty() {
        lines.push(named("otherwise", &changes.otherwise));
    }
    for (count, what) in [
        (changes.newly_550, "blocked as before, but answered with a 550"),
        (changes.newly_250, "blocked as before, but answered with a 250"),
    ] {
        if count > 0 {
            lines.push(format!("  {count} {what}"));
        }
    }
    lines
}

fn users(rows: &[UserRow]) -> Table {
    let mut table = Table::new(&["USER", "MESSAGES", "BLOCKED", "PASSED", "SUSPECT", "OVER A LIMIT"]);
    for row in rows {
        let sum = |by: &BTreeMap<String, u64>| by.values().sum::<u64>().to_string();
        let user = if row.is_removed { format!("{} (removed)", row.user) } else { row.user.to_string() };
        table.row(vec![
            user,
            row.messages.to_string(),
            sum(&row.changes.newly_blocked),
            sum(&row.changes.newly_passed),
            row.changes.newly_suspect.to_string(),
            row.over_limit.to_string(),
        ]);
    }
    table
}

fn examples(rows: &[UserRow]) -> Table {
    let mut table = Table::new(&[
        "USER",
        "CHANGE",
        "ID",
        "ACCEPTED (UTC)",
        "IDENTITY",
        "WAS",
        "WOULD BE",
        "SCORE",
        "SUBJECT",
    ]);
    for row in rows {
        for example in &row.examples {
            let change = match example.change {
                ChangeKind::Blocked => "blocked",
                ChangeKind::Passed => "passed",
                ChangeKind::Suspect => "suspect",
                ChangeKind::Otherwise => "otherwise",
            };
            table.row(vec![
                row.user.to_string(),
                change.to_owned(),
                example.id.to_string(),
                time(example.accepted_at),
                example.identity.to_string(),
                example.was.to_string(),
                example.would_be.to_string(),
                format!("{:.3}", example.score),
                example.subject.clone().unwrap_or_default(),
            ]);
        }
    }
    table
}

fn limits(rows: &[UserRow]) -> Table {
    let mut table =
        Table::new(&["USER", "LIMIT", "SET TO", "OVER IT", "FIRST (UTC)", "FIRST ID", "LARGEST BURST"]);
    for row in rows {
        for hit in &row.limits {
            table.row(vec![
                row.user.to_string(),
                hit.limit.clone(),
                hit.set_to.to_string(),
                hit.messages.to_string(),
                time(hit.first),
                hit.first_id.to_string(),
                hit.largest_burst.to_string(),
            ]);
        }
    }
    table
}

/// A fragment of a settings file.
fn suggested(suggestions: &[Suggestion], answer: &Answer) -> String {
    let mut out = format!(
        "# Limits by what each user sent from {} to {} (UTC): 1.5 times the 99th percentile.\n\
         # Paste each into the [[outgoing_user]] that is named; what it has stays where nothing is suggested.\n",
        time(answer.since),
        time(answer.until)
    );
    for suggestion in suggestions {
        out.push_str(&suggestion_of(suggestion));
    }
    out
}

fn suggestion_of(suggestion: &Suggestion) -> String {
    let key = if suggestion.user.as_str().parse::<ipnet::IpNet>().is_ok() { "ip" } else { "login" };
    let mut out = format!("\n# {key} = \"{}\": {} messages\n", suggestion.user, suggestion.messages);
    for pace in &suggestion.paces {
        let over = match pace.suggested {
            None => "too few to tell".to_owned(),
            Some(limit) => format!("{limit} would have been too little in {} of {}", pace.over, pace.times),
        };
        out.push_str(&format!(
            "#   {:<20} 50 %: {}, 99 %: {}, most: {}; {over}\n",
            pace.limit, pace.p50, pace.p99, pace.p100
        ));
    }
    let limits = serde_json::to_value(&suggestion.limits).unwrap_or_default();
    let limits = limits.as_object().into_iter().flatten();
    let limits = limits.map(|(name, limit)| format!("{name} = {limit}")).collect::<Vec<_>>().join(", ");
    if !limits.is_empty() && suggestion.paces.iter().any(|pace| pace.suggested.is_some()) {
        out.push_str(&format!("limits = {{ {limits} }}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatif::answer::{Changes, Pace};
    use schemas::UserId;
    use schemas::settings::{Limits, SettingsView};

    fn answer() -> Answer {
        let pace = Pace {
            limit: "messages_per_hour".into(),
            times: 48,
            p50: 3,
            p99: 20,
            p100: 40,
            suggested: Some(30),
            over: 1,
        };
        let limits =
            Limits { messages_per_hour: Some(30), messages_per_month: Some(9000), ..Limits::default() };
        Answer {
            since: Timestamp(1_795_512_600_000),
            until: Timestamp(1_796_117_400_000),
            diff: Vec::new(),
            not_tried: vec!["identification".into()],
            totals: Totals {
                messages: 12,
                recomputed: 9,
                too_old: 3,
                changes: Changes {
                    unchanged: 7,
                    newly_blocked: BTreeMap::from([("spam".to_owned(), 2)]),
                    ..Changes::default()
                },
                ..Totals::default()
            },
            users: Vec::new(),
            users_left_out: 0,
            suggestions: Some(vec![Suggestion {
                user: UserId("a.example".into()),
                messages: 12,
                paces: vec![pace],
                limits,
            }]),
        }
    }

    #[test]
    fn a_person_reads_what_changes_and_what_is_not_known() {
        let text = report(&answer(), true);
        for expected in [
            "The settings tried are those in force.",
            "what it does: identification",
            "12 messages since 2026-11-24 09:30:00 (UTC), 9 of them decided again.",
            "3 verdicts are too old to be recomputed",
            "  newly blocked         2  spam 2",
            "  unchanged             7",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn what_is_suggested_can_be_pasted() {
        let text = suggestion_of(&answer().suggestions.unwrap()[0]);
        let file = format!(
            "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nlogin = \"a.example\"\n{text}"
        );
        let file = SettingsFile { text: file, ..SettingsFile::default() };
        let tried = control::tried::tried(&file, &SettingsView::default()).unwrap();
        let user = tried.settings.user_by_login("a.example").unwrap();
        assert_eq!(user.settings.limits, Some(answer().suggestions.unwrap()[0].limits.clone()));
    }
}
