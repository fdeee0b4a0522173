//! `POST /v1/settings/plan`, `POST /v1/settings/apply`, `GET /v1/settings`, `GET /v1/changes`.

use std::collections::BTreeMap;
use std::path::Path;

use schemas::settings::Change;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A settings file with the key files that it names. The client reads them, so that the node opens no path that
/// somebody wrote into a file. Request of `POST /v1/settings/plan`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SettingsFile {
    /// Content of `settings.toml`.
    pub text: String,
    /// By the path as it is written in the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub key_files: BTreeMap<String, KeyFile>,
}

/// A file named by a settings file: its content, or why it could not be read.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct KeyFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile(read: {}, error: {:?})", self.content.is_some(), self.error)
    }
}

impl SettingsFile {
    /// Reads a file and the key files that it names, relative to its own directory. A key file that cannot be read is
    /// told in the answer, with its line.
    ///
    /// # Errors
    /// When the file itself cannot be read.
    pub fn load(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let read = |name: String| {
            let file = match std::fs::read_to_string(directory.join(&name)) {
                Ok(content) => KeyFile { content: Some(content), error: None },
                Err(error) => KeyFile { content: None, error: Some(error.to_string()) },
            };
            (name, file)
        };
        let key_files = crate::settings_file::key_files_named(&text).into_iter().map(read).collect();
        Ok(SettingsFile { text, key_files })
    }
}

/// Answer of `POST /v1/settings/plan`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The version that the plan was made against; absent when there are no settings yet. `apply` takes it back as
    /// `expected_version`.
    pub version: Option<u64>,
    /// Empty: the settings are as the file says.
    pub diff: Vec<DiffEntry>,
}

/// Request of `POST /v1/settings/apply`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyRequest {
    #[serde(flatten)]
    pub file: SettingsFile,
    /// From the plan; 409 when the settings have changed since.
    #[serde(default)]
    pub expected_version: Option<u64>,
}

/// Answer of `POST /v1/settings/apply`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyAnswer {
    pub version: Option<u64>,
    /// What was changed.
    pub diff: Vec<DiffEntry>,
    /// `false`: it is durable, but this node has not taken it in within ten seconds.
    pub in_force: bool,
}

/// One setting that is added, changed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// `kind/id`, as `outgoing_user/shop@customer.example`.
    pub key: String,
    pub kind: ChangeKind,
    /// What differs; of a setting that is added or removed, all of it. Secrets read `<secret>`.
    pub fields: Vec<FieldChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Changed,
    Removed,
}

/// One field, named as in a settings file: `limits.messages_per_hour`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    pub field: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

impl std::fmt::Display for DiffEntry {
    /// For a terminal: the setting with a sign before it, then its fields, one a line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Changed => '~',
            ChangeKind::Removed => '-',
        };
        write!(f, "{sign} {}", self.key)?;
        for FieldChange { field, before, after } in &self.fields {
            match (before, after) {
                (Some(before), Some(after)) => write!(f, "\n    {field}: {before} -> {after}")?,
                (None, Some(value)) => write!(f, "\n    {field}: {value}")?,
                (Some(value), None) => write!(f, "\n    {field}: {value} -> (not set)")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// Answer of `GET /v1/settings`. Parameters: `kind` (`domain`, `outgoing_user` ...).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingsAnswer {
    pub version: Option<u64>,
    pub settings: Vec<SettingRow>,
}

/// One setting, its secrets left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingRow {
    pub key: String,
    pub setting: Value,
}

/// Answer of `GET /v1/changes`, newest first. Parameters: `since` (`10m`, `7d` or an RFC 3339 time), `key` (of one
/// setting, or the beginning of several: `domain/`), `limit` (100).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangesAnswer {
    pub changes: Vec<Change>,
    /// How many match, whatever the limit.
    pub total: u64,
}
