//! What-if: settings that are not in force, tried on the verdicts of the last days and on messages that are still there. It reads
//! the log and writes nothing.
//!
//! Journey: `answer` (what is asked and told) -> here (reads verdicts in their order) -> `bodies` (where a verdict does not say
//! enough) -> `scorer::recompute` -> `fold` (adds up; `replay` for limits, `suggest` for percentiles).
//!
//! It stands here because it needs both the reader of settings files, which is control's, and what decides, which is the scorer's.

pub mod answer;
mod bodies;
mod fold;
mod replay;
mod suggest;

#[cfg(test)]
mod samples;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use control::api::DiffEntry;
use control::tried::{Tried, tried};
use control::{Context, Error};
use eventlog::{Record, TableEvent};
use schemas::limits::Kind;
use schemas::settings::{Setting, SettingsView};
use schemas::verdict::{Disposition, Verdict, VerdictEvent};
use schemas::{Timestamp, Topic, UserId};
use scorer::policy::{self, Policy};
use scorer::recompute::{Again, decide_again};
use tokio::sync::Mutex;

use answer::{Answer, Request};
use bodies::Bodies;
use fold::{Fold, Found, Scope};
use replay::REPLAYED;

/// Largest request, in bytes: settings with tens of thousands of users, and a model.
const MAX_REQUEST_BYTES: usize = 96 * 1024 * 1024;
const ROWS_AT_ONCE: usize = 500;
/// A verdict is appended after its message was accepted, but by another clock, perhaps.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);

/// What can be tried, by the names of settings.
const TRIED: [&str; 14] = [
    "limits",
    "over_limit",
    "spam_action",
    "spam_threshold",
    "quarantine_response",
    "require_valid_sender",
    "from_domains",
    "allow_senders",
    "block_senders",
    "allow_recipients",
    "block_recipients",
    "blocked_extensions",
    "checks",
    "weights",
];
/// Of a user or domain, these are no settings.
const NO_SETTINGS: [&str; 7] = ["name", "domain", "login", "range", "password_hash", "abuse_address", "ip"];

#[derive(Clone)]
struct WhatIf {
    context: Context,
    /// That of the configuration; none: the one that ships with Mailweir.
    model: Option<PathBuf>,
    /// One at a time: it reads as fast as it can.
    running: Arc<Mutex<()>>,
}

/// `POST /v1/whatif`.
pub fn router(context: Context, model: Option<PathBuf>) -> axum::Router {
    axum::Router::new()
        .route("/v1/whatif", post(whatif))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(WhatIf { context, model, running: Arc::default() })
}

async fn whatif(State(state): State<WhatIf>, body: Bytes) -> Result<Json<Answer>, Error> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        Error::invalid(
            format!("the request is not what this route takes: {error}"),
            "correct the JSON that is sent",
        )
    })?;
    let _alone = state.running.try_lock().map_err(|_| {
        Error::conflict(
            "another what-if is running",
            "wait until it is done: it reads the log as fast as it can",
        )
    })?;
    state.run(request).await.map(Json)
}

impl WhatIf {
    async fn run(&self, request: Request) -> Result<Answer, Error> {
        let current = self.context.writer.settings().await?;
        let Tried { settings, diff } = match &request.policy {
            Some(file) => tried(file, &current)?,
            None => Tried { settings: current, diff: Vec::new() },
        };
        let scope = Scope { since: request.since, examples: request.examples, suggest: request.suggest };
        let mut trial = Trial {
            policies: HashMap::new(),
            longest_limit: longest_limit(&settings),
            settings,
            rescore: request.rescore,
            bodies: Bodies::new(self.model.clone(), request.model, request.max_bodies)?,
            fold: Fold::new(scope),
            since: request.since,
        };
        let until = self.context.clock.now();
        for partition in 0..self.context.log.partitions(Topic::Verdicts) {
            trial.read(&self.context, partition).await?;
            trial.fold.end_of_partition();
        }
        let (totals, users, users_left_out, suggestions) = trial.fold.end();
        let not_tried = not_tried(&diff);
        Ok(Answer {
            since: request.since,
            until,
            diff,
            not_tried,
            totals,
            users,
            users_left_out,
            suggestions,
        })
    }
}

/// One what-if under way.
struct Trial {
    settings: SettingsView,
    /// By user; none: the settings tried do not have it.
    policies: HashMap<UserId, Option<Arc<Policy>>>,
    longest_limit: Duration,
    rescore: bool,
    bodies: Bodies,
    fold: Fold,
    since: Timestamp,
}

impl Trial {
    async fn read(&mut self, context: &Context, partition: u32) -> Result<(), Error> {
        // What was sent before the period still counts against the limits at its beginning.
        let from = self.since.minus(self.longest_limit);
        let first = from.minus(CLOCKS_DIFFER);
        let mut table = context.log.table(Topic::Verdicts, Some(&[partition])).await?;
        loop {
            for event in table.next(ROWS_AT_ONCE).await? {
                match event {
                    TableEvent::CaughtUp => return Ok(()),
                    TableEvent::Row(record) if record.appended_at < first => {}
                    TableEvent::Row(record) => {
                        let Some(verdict) = verdict_of(&record) else { continue };
                        if verdict.message.accepted_at >= from {
                            self.take(context, &verdict).await?;
                        }
                    }
                }
            }
            // Mail goes first.
            tokio::task::yield_now().await;
        }
    }

    async fn take(&mut self, context: &Context, verdict: &Verdict) -> Result<(), Error> {
        let Some(policy) = self.policy(verdict) else {
            self.fold.take_of_removed(verdict);
            return Ok(());
        };
        let found = self.found(context, verdict, &policy).await?;
        self.fold.take(verdict, &policy, found);
        Ok(())
    }

    async fn found(&mut self, context: &Context, verdict: &Verdict, policy: &Policy) -> Result<Found, Error> {
        let again = decide_again(verdict, policy);
        let is_in_period = verdict.message.accepted_at >= self.since;
        let by_verdict = match again {
            Again::Decided(decision) if !(self.rescore && is_in_period) => {
                return Ok(Found::Decided { decision, from_body: false });
            }
            Again::Decided(_) | Again::NotKnown => Found::Unknown,
            Again::TooOld => Found::TooOld,
        };
        if !is_in_period {
            return Ok(by_verdict);
        }
        self.bodies.judge(context, verdict, policy, by_verdict).await
    }

    fn policy(&mut self, verdict: &Verdict) -> Option<Arc<Policy>> {
        let (id, settings) = (&verdict.message.user, &self.settings);
        if let Some(known) = self.policies.get(id) {
            return known.clone();
        }
        let policy = settings.user(id).map(|user| {
            let (effective, version) = policy::effective(settings, &user.id(), &user.domain);
            Arc::new(Policy::of(effective, version))
        });
        self.policies.insert(id.clone(), policy.clone());
        policy
    }
}

/// A verdict on a message of a client.
fn verdict_of(record: &Record) -> Option<Verdict> {
    match serde_json::from_slice(record.value.as_ref()?) {
        // What waits for an engine is judged again, and counts then.
        Ok(VerdictEvent::Judged(verdict)) if waits_for_an_engine(&verdict) => None,
        Ok(VerdictEvent::Judged(verdict)) if !verdict.message.own => Some(verdict),
        Ok(_) => None,
        Err(error) => {
            tracing::error!(position = %record.position, %error, "a verdict does not parse, it is passed over");
            None
        }
    }
}

fn waits_for_an_engine(verdict: &Verdict) -> bool {
    verdict.disposition == Disposition::Hold
        && !verdict.symbols.iter().any(|symbol| symbol.name == "OVER_LIMIT")
}

/// The longest time over which any user is counted.
fn longest_limit(settings: &SettingsView) -> Duration {
    let levels = settings.iter().filter_map(|(_, setting)| match setting {
        Setting::Defaults { settings } => settings.limits.as_ref(),
        Setting::Domain(domain) => domain.settings.limits.as_ref(),
        Setting::OutgoingUser(user) => user.settings.limits.as_ref(),
        _ => None,
    });
    let spans = levels
        .flat_map(|limits| REPLAYED.into_iter().filter(|kind| kind.limit(limits).is_some()).map(Kind::span));
    spans.max().unwrap_or_default()
}

/// Settings of users that differ and cannot be tried.
fn not_tried(diff: &[DiffEntry]) -> Vec<String> {
    let of_users = |entry: &&DiffEntry| {
        ["defaults", "domain", "outgoing_user"].contains(&entry.key.split('/').next().unwrap_or_default())
    };
    let fields = diff.iter().filter(of_users).flat_map(|entry| &entry.fields);
    let names: BTreeSet<&str> = fields
        .map(|field| match field.field.as_str() {
            invalid if invalid.starts_with("limits.invalid_recipients") => invalid,
            name => name.split('.').next().unwrap_or_default(),
        })
        .collect();
    let cannot = names.into_iter().filter(|name| !TRIED.contains(name) && !NO_SETTINGS.contains(name));
    cannot.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::SettingsFile;

    const FILE: &str = "[defaults]\nspam_threshold = 0.9\nidentification = [\"user\"]\n[[domain]]\nname = \"a.example\"\nabuse_address = \"x@a.example\"\nmax_connections = 3\n\
                        [[outgoing_user]]\ndomain = \"a.example\"\nip = \"192.0.2.1\"\nlimits = { messages_per_hour = 3, recipients_per_day = 9, invalid_recipients_per_day = 5 }\n\
                        [[outgoing_user]]\ndomain = \"a.example\"\nlogin = \"a.example\"\n";

    fn read(text: &str) -> Tried {
        let file = SettingsFile { text: text.into(), ..SettingsFile::default() };
        tried(&file, &SettingsView::default()).unwrap()
    }

    #[test]
    fn what_cannot_be_tried_is_told() {
        let Tried { settings, diff } = read(FILE);
        assert_eq!(
            not_tried(&diff),
            ["identification", "limits.invalid_recipients_per_day", "max_connections"]
        );
        assert_eq!(longest_limit(&settings), Duration::from_secs(24 * 3600));
        assert_eq!(longest_limit(&SettingsView::default()), Duration::ZERO);
    }

    #[test]
    fn every_setting_is_tried_or_told() {
        // A setting that is added must be entered in one of the two lists, or told to be not tried.
        let untried = [
            "identification",
            "automatic_lock",
            "max_connections",
            "max_message_bytes",
            "max_retry_days",
            "delivery_pool",
            "dkim_selector",
        ];
        let all = control::settings_file::level_keys();
        let unknown: Vec<_> =
            all.iter().filter(|key| !TRIED.contains(key) && !untried.contains(key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
