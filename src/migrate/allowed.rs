//! Whether a migration may go on.

use std::path::Path;

use eventlog::kafka::KafkaConfig;
use schemas::migration::{Migration, MigrationState};

use crate::config::{Config, LogEngine};

/// How it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// On an empty log.
    Fresh,
    /// After one that was interrupted: what that one left is covered.
    Again,
}

/// The Kafka log to move to, when the two configurations are of one node.
pub(super) fn pair<'a>(from: &Config, to: &'a Config) -> anyhow::Result<&'a KafkaConfig> {
    if matches!(from.log, LogEngine::Kafka(_)) {
        anyhow::bail!(
            "--from keeps its log on Kafka already; give the configuration with the embedded log there, the other one with --to"
        );
    }
    let LogEngine::Kafka(kafka) = &to.log else {
        anyhow::bail!(
            "--to keeps its log under its data_dir; set [log] engine = \"kafka\" and brokers there, or use `mailweir backup` and `restore` for a copy"
        );
    };
    if from.node != to.node {
        anyhow::bail!(
            "--from is node {}, --to is node {}: the queue is in the lane of the node it is named after; set node = \"{}\" in both",
            from.node,
            to.node,
            from.node
        );
    }
    Ok(kafka)
}

/// What is sealed in the settings must be readable afterwards.
pub(super) fn same_key(from: &Path, to: &Path) -> anyhow::Result<()> {
    for (which, path) in [("--from", from), ("--to", to)] {
        if !path.exists() {
            anyhow::bail!(
                "the cluster key {} of {which} is not there: what is sealed in the settings (DKIM keys) opens with this key only; copy it there",
                path.display()
            );
        }
    }
    let (ours, theirs) =
        (control::cluster_key::load_or_create(from)?, control::cluster_key::load_or_create(to)?);
    if ours.fingerprint() != theirs.fingerprint() {
        anyhow::bail!(
            "the cluster keys differ: {} is {}, {} is {}; what is sealed in the settings opens with the first only: copy it over the second",
            from.display(),
            ours.fingerprint(),
            to.display(),
            theirs.fingerprint()
        );
    }
    Ok(())
}

/// What the target says of itself: `found`, the mark of an earlier migration; `is_empty`, no record in any topic.
pub(super) fn begin(found: Option<&Migration>, node: &str, is_empty: bool) -> anyhow::Result<Beginning> {
    let elsewhere = "choose another [log] prefix in --to, or delete the topics on the brokers";
    match found {
        Some(Migration { node: of, state: MigrationState::Begun, .. }) if of == node => Ok(Beginning::Again),
        Some(Migration { node: of, state: MigrationState::Begun, .. }) => anyhow::bail!(
            "a migration of node {of} to this log is not finished: give that one again first, or {elsewhere}"
        ),
        Some(Migration { node: of, at, .. }) => anyhow::bail!(
            "the log of node {of} was moved here already, at {}: start the node with --config of --to; to move another one, {elsewhere}",
            at.rfc3339()
        ),
        None if is_empty => Ok(Beginning::Fresh),
        None => anyhow::bail!("the log of --to is not empty, and nothing may be mixed into it: {elsewhere}"),
    }
}

#[cfg(test)]
mod tests {
    use schemas::Timestamp;

    use super::*;

    #[test]
    fn only_an_empty_log_or_ones_own_half_is_moved_to() {
        let mark = |node: &str, state| Migration { node: node.into(), state, at: Timestamp(0) };
        let begun = mark("n", MigrationState::Begun);
        for (found, is_empty, expected) in [
            (None, true, Ok(Beginning::Fresh)),
            (None, false, Err("not empty")),
            (Some(begun.clone()), false, Ok(Beginning::Again)),
            (Some(mark("other", MigrationState::Begun)), false, Err("node other")),
            (Some(mark("n", MigrationState::Done)), false, Err("already, at 1970-01-01")),
            (Some(mark("n", MigrationState::Unknown)), false, Err("already")),
        ] {
            match (begin(found.as_ref(), "n", is_empty), expected) {
                (Ok(is), Ok(expected)) => assert_eq!(is, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (is, expected) => panic!("{is:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn two_configurations_of_one_node_fit() {
        let config = |text: &str| {
            let text = format!(
                "data_dir = \"/nowhere\"\n{text}\n[ingress]\nhostname = \"smtp.hoster.example\"\n\
                 [[ingress.listener]]\nbind = \"127.0.0.1:2525\"\ntls = \"none\"\n"
            );
            Config::parse(Path::new("test.toml"), &text).expect("a configuration")
        };
        let embedded = config("node = \"a\"");
        let kafka = config("node = \"a\"\n[log]\nengine = \"kafka\"\nbrokers = [\"k:9092\"]");
        let other = config("node = \"b\"\n[log]\nengine = \"kafka\"\nbrokers = [\"k:9092\"]");
        assert_eq!(pair(&embedded, &kafka).expect("they fit").brokers, ["k:9092"]);
        for (from, to, part) in [
            (&kafka, &kafka, "already"),
            (&embedded, &embedded, "engine = \"kafka\""),
            (&embedded, &other, "node = \"a\" in both"),
        ] {
            let error = pair(from, to).expect_err("they do not fit").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
