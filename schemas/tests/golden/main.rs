//! Every shape of a record that was ever written still parses, and nothing of it gets lost.
//!
//! `golden/` has one file per shape, by topic. A file is never changed: when a record gets a new shape, a new file joins
//! the old ones. `cargo test -p schemas --test golden -- --ignored` writes the files of `samples` that are missing.

#![allow(clippy::unwrap_used)] // a test that cannot go on must fail

mod samples;

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemas::attempt::{AttemptCause, AttemptEvent, Outcome};
use schemas::commands::{Action, Command};
use schemas::envelope::{Envelope, Origin};
use schemas::history::{Arrivals, Bulk, Contacts, Rates, Text};
use schemas::migration::{Migration, MigrationState};
use schemas::models::ModelRecord;
use schemas::plan::Plan;
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::queue::QueueEntry;
use schemas::reply::Reply;
use schemas::senders::{HoldRow, RecipientsRow, SenderRow};
use schemas::session::SessionRefusals;
use schemas::settings::{Change, Setting, UserAuth};
use schemas::verdict::{Classification, Disposition, Judged, VerdictEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Reads every file of a topic as `T`; `kinds` names what a record shows, out of `all`, which must all occur.
fn check<T: DeserializeOwned + Serialize>(
    topic: &str,
    kinds: impl Fn(&T) -> Vec<&'static str>,
    all: &[&str],
) {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(directory().join(topic)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let record: T =
            serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (was, is) = (serde_json::from_slice(&bytes).unwrap(), serde_json::to_value(&record).unwrap());
        keeps(&was, &is, &path.display().to_string());
        seen.extend(kinds(&record));
    }
    let all: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(seen, all, "golden/{topic} must have a file for each of these");
}

/// Whatever stood in the file stands in the record that was read from it.
fn keeps(was: &Value, is: &Value, at: &str) {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            for (key, value) in was {
                let at = format!("{at} {key}");
                keeps(value, is.get(key).unwrap_or_else(|| panic!("{at} is lost")), &at);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            was.iter().zip(is).for_each(|(was, is)| keeps(was, is, at));
        }
        _ => assert_eq!(was, is, "{at}"),
    }
}

// The matches below have no wildcard: a variant that is added asks for its file.

#[test]
fn models() {
    let kind = |record: &ModelRecord| match record {
        ModelRecord::Feedback(_) => vec!["feedback"],
        ModelRecord::Delta(_) => vec!["delta"],
        ModelRecord::Rollback { .. } => vec!["rollback"],
        ModelRecord::Unknown => vec!["unknown"],
    };
    check("models", kind, &["feedback", "delta", "rollback"]);
}

#[test]
fn envelopes() {
    let origin = |envelope: &Envelope| match envelope.origin {
        None => vec!["client"],
        Some(Origin::Dsn { .. }) => vec!["dsn"],
        Some(Origin::FeedbackReport { .. }) => vec!["feedback_report"],
        Some(Origin::Notice { .. }) => vec!["notice"],
        Some(Origin::Unknown) => vec!["unknown"],
    };
    check("accepted", origin, &["client", "dsn", "feedback_report", "notice"]);
}

#[test]
fn verdicts() {
    let kind = |event: &VerdictEvent| match event {
        VerdictEvent::Judged(verdict) => match verdict.disposition {
            Disposition::Release => vec!["release"],
            Disposition::Quarantine => vec!["quarantine"],
            Disposition::Hold => vec!["hold"],
            Disposition::Unknown => vec!["unknown"],
        },
        VerdictEvent::Released { .. } => vec!["released"],
        VerdictEvent::Closed { .. } => vec!["closed"],
        VerdictEvent::Lock { .. } => vec!["lock"],
        VerdictEvent::Unknown => vec!["unknown"],
    };
    check("verdicts", kind, &["release", "quarantine", "hold", "released", "closed", "lock"]);
}

#[test]
fn released_and_quarantined() {
    let kind = |judged: &Judged| vec![if judged.released_by.is_some() { "by a person" } else { "by policy" }];
    check("released", kind, &["by a person", "by policy"]);
}

#[test]
fn attempts() {
    let kind = |event: &AttemptEvent| match event {
        AttemptEvent::Attempt(attempt) => {
            let cause = match attempt.cause {
                AttemptCause::Tried => "tried",
                AttemptCause::Expired => "expired",
                AttemptCause::Removed => "an operator",
                AttemptCause::Unknown => "unknown",
            };
            let outcome = attempt.recipients.iter().map(|recipient| match recipient.outcome {
                Outcome::Delivered => "delivered",
                Outcome::Deferred => "deferred",
                Outcome::Failed => "failed",
                Outcome::Removed => "removed",
                Outcome::Unknown => "unknown",
            });
            outcome.chain([cause]).collect()
        }
        AttemptEvent::Unknown => vec!["unknown"],
    };
    let all = ["tried", "expired", "an operator", "delivered", "deferred", "failed", "removed"];
    check("attempts", kind, &all);
}

#[test]
fn queue_entries() {
    let kind = |entry: &QueueEntry| {
        vec![match (entry.held, entry.passed_on_at, entry.moved) {
            (true, ..) => "held",
            (_, Some(_), _) => "passed on",
            (.., true) => "moved",
            _ => "waiting",
        }]
    };
    check("queue", kind, &["held", "waiting", "passed on", "moved"]);
}

#[test]
fn quarantine_rows() {
    let kind = |row: &QuarantineRow| match row.state {
        QuarantineState::In => vec!["in"],
        QuarantineState::Released => vec!["released"],
        QuarantineState::Confirmed => vec!["confirmed"],
        QuarantineState::Removed => vec!["removed"],
        QuarantineState::Unknown => vec!["unknown"],
    };
    check("quarantine", kind, &["in", "released", "confirmed", "removed"]);
}

#[test]
fn senders() {
    let kind = |row: &SenderRow| vec![if row.identity.is_some() { "identity" } else { "user" }];
    check("senders", kind, &["identity", "user"]);
}

#[test]
fn holds() {
    let kind = |row: &HoldRow| vec![if row.unchecked { "engine" } else { "limit" }];
    check("holds", kind, &["limit", "engine"]);
}

#[test]
fn histories() {
    check("history_rates", |_: &Rates| vec!["rates"], &["rates"]);
    check("history_contacts", |_: &Contacts| vec!["contacts"], &["contacts"]);
    check("history_arrivals", |_: &Arrivals| vec!["arrivals"], &["arrivals"]);
    check("history_bulk", |_: &Bulk| vec!["bulk"], &["bulk"]);
    check("history_text", |_: &Text| vec!["text"], &["text"]);
}

#[test]
fn recipients() {
    check("recipients", |_: &RecipientsRow| vec!["recipients"], &["recipients"]);
}

#[test]
fn settings() {
    let kind = |setting: &Setting| match setting {
        Setting::Defaults { .. } => vec!["defaults"],
        Setting::Domain(_) => vec!["domain"],
        Setting::OutgoingUser(user) => match user.auth {
            UserAuth::Ip { .. } => vec!["user by ip"],
            UserAuth::Password { .. } => vec!["user by password"],
        },
        Setting::EgressSource(_) => vec!["egress_source"],
        Setting::EgressPool(_) => vec!["egress_pool"],
        Setting::DkimKey(_) => vec!["dkim_key"],
        Setting::Route(_) => vec!["route"],
        Setting::Unknown => vec!["unknown"],
    };
    let all = [
        "defaults",
        "domain",
        "user by ip",
        "user by password",
        "egress_source",
        "egress_pool",
        "dkim_key",
        "route",
    ];
    check("settings", kind, &all);
    check("changes", |_: &Change| vec!["change"], &["change"]);
}

#[test]
fn commands() {
    let kind = |command: &Command| match command.action {
        Action::Release { .. } => vec!["release"],
        Action::Confirm { .. } => vec!["confirm"],
        Action::Remove { .. } => vec!["remove"],
        Action::Lock { .. } => vec!["lock"],
        Action::Unlock { .. } => vec!["unlock"],
        Action::Reset { .. } => vec!["reset"],
        Action::QueueRetry { .. } => vec!["queue_retry"],
        Action::QueueHold { .. } => vec!["queue_hold"],
        Action::QueueResume { .. } => vec!["queue_resume"],
        Action::QueueRemove { .. } => vec!["queue_remove"],
        Action::QueueReroute { .. } => vec!["queue_reroute"],
        Action::LaneRead { .. } => vec!["lane_read"],
        Action::Unknown => vec!["unknown"],
    };
    let all = [
        "release",
        "confirm",
        "remove",
        "lock",
        "unlock",
        "reset",
        "queue_retry",
        "queue_hold",
        "queue_resume",
        "queue_remove",
        "queue_reroute",
        "lane_read",
    ];
    check("commands", kind, &all);
}

#[test]
fn replies_and_refusals() {
    let kind = |reply: &Reply| match reply {
        Reply::Session { .. } => vec!["session"],
        Reply::Command { .. } => vec!["command"],
        Reply::Unknown => vec!["unknown"],
    };
    check("replies", kind, &["session", "command"]);
    check("plans", |_: &Plan| vec!["plan"], &["plan"]);
    let state = |migration: &Migration| match migration.state {
        MigrationState::Begun => vec!["begun"],
        MigrationState::Done => vec!["done"],
        MigrationState::Unknown => vec![],
    };
    check("migration", state, &["begun", "done"]);
    check("sessions", |_: &SessionRefusals| vec!["refusals"], &["refusals"]);
}

/// Scripts of operators rely on the codes.
#[test]
fn classification_codes() {
    let read = |name: &str| -> Vec<String> {
        serde_json::from_slice(&std::fs::read(directory().join(name)).unwrap()).unwrap()
    };
    let files = [
        "classification_codes.json",
        "classification_codes_2.json",
        "classification_codes_3.json",
        "classification_codes_engines.json",
    ];
    let codes = files.map(read).concat();
    assert!(codes.len() >= 33);
    for code in codes {
        let read: Classification = serde_json::from_value(code.as_str().into()).unwrap();
        assert_eq!((read.code(), read == Classification::Unknown), (code.as_str(), false));
        assert_eq!(serde_json::to_value(read).unwrap(), code.as_str());
    }
}

#[test]
fn what_a_later_version_wrote_is_no_error() {
    fn reads<T: DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }
    assert_eq!(reads::<VerdictEvent>(r#"{"type":"later","x":[1]}"#), VerdictEvent::Unknown);
    assert_eq!(reads::<AttemptEvent>(r#"{"type":"later","x":[1]}"#), AttemptEvent::Unknown);
    assert_eq!(reads::<Reply>(r#"{"type":"later","x":[1]}"#), Reply::Unknown);
    assert_eq!(reads::<Setting>(r#"{"kind":"later","x":[1]}"#), Setting::Unknown);
    assert_eq!(reads::<Action>(r#"{"action":"later","x":[1]}"#), Action::Unknown);
    assert_eq!(reads::<Origin>(r#"{"kind":"later","x":[1]}"#), Origin::Unknown);
    assert_eq!(reads::<Disposition>(r#""later""#), Disposition::Unknown);
    assert_eq!(reads::<Classification>(r#""later""#), Classification::Unknown);
    assert_eq!(reads::<Outcome>(r#""later""#), Outcome::Unknown);
    assert_eq!(reads::<AttemptCause>(r#""later""#), AttemptCause::Unknown);
    assert_eq!(reads::<QuarantineState>(r#""later""#), QuarantineState::Unknown);
    // and a field more changes nothing
    for (name, sample) in samples::all() {
        let mut value = sample.clone();
        if value.is_object() {
            value["of_a_later_version"] = 1.into();
            if let Some(settings) = value.get_mut("settings") {
                settings["of_a_later_version"] = 1.into();
            }
            let text = value.to_string();
            match name.split('/').next() {
                Some("accepted") => drop(reads::<Envelope>(&text)),
                Some("verdicts") => drop(reads::<VerdictEvent>(&text)),
                Some("attempts") => drop(reads::<AttemptEvent>(&text)),
                Some("queue") => drop(reads::<QueueEntry>(&text)),
                Some("commands") => drop(reads::<Command>(&text)),
                Some("settings") => {
                    let (setting, _) = Setting::from_stored(text.as_bytes())
                        .unwrap_or_else(|error| panic!("{text}: {error}"));
                    let was = reads::<Setting>(&sample.to_string());
                    assert_eq!(setting, was, "{name}");
                }
                _ => {}
            }
        }
    }
}

#[test]
#[ignore = "writes the files of samples that are missing, never over one that is there"]
fn write_what_is_missing() {
    for (name, value) in samples::all() {
        let path = directory().join(format!("{name}.json"));
        if !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&value).unwrap())).unwrap();
        }
    }
}
