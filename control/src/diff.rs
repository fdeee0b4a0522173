//! What applying settings would change: added, removed, and each changed field with its value before and after.

use std::collections::BTreeMap;

use schemas::settings::{Setting, SettingsView};
use serde_json::Value;

use crate::api::{ChangeKind, DiffEntry, FieldChange};
use crate::redact;

/// What is to be written for one entry of the diff.
#[derive(Clone, Debug)]
pub struct Step {
    pub entry: DiffEntry,
    pub before: Option<Setting>,
    /// Absent: the setting is removed.
    pub after: Option<Setting>,
}

/// What makes `current` into `wanted`. DKIM keys are never removed by a file that does not name them: a key that was
/// made here exists nowhere else, and mail in the queue may still need it.
#[must_use]
pub fn declarative(current: &SettingsView, wanted: Vec<Setting>) -> Vec<Step> {
    let mut wanted: BTreeMap<String, Setting> = wanted.into_iter().map(|s| (s.key(), s)).collect();
    let mut steps = Vec::new();
    for (key, before) in current.iter() {
        match wanted.remove(key) {
            Some(after) => steps.extend(step(key, Some(before), Some(after))),
            // A kind that a newer version wrote is not ours to remove.
            None if matches!(before, Setting::DkimKey(_) | Setting::Unknown) => {}
            None => steps.extend(step(key, Some(before), None)),
        }
    }
    steps.extend(wanted.into_iter().filter_map(|(key, after)| step(&key, None, Some(after))));
    steps.sort_by_key(|step| order(&step.entry));
    steps
}

/// The one step that puts a setting in place; none when it stands already.
#[must_use]
pub fn put(current: &SettingsView, after: Setting) -> Option<Step> {
    let key = after.key();
    step(&key, current.get(&key), Some(after))
}

/// The one step that removes a setting; none when it is not there.
#[must_use]
pub fn remove(current: &SettingsView, key: &str) -> Option<Step> {
    step(key, current.get(key), None)
}

fn step(key: &str, before: Option<&Setting>, after: Option<Setting>) -> Option<Step> {
    let (kind, fields) = match (before, &after) {
        (Some(before), Some(after)) if before == after => return None,
        (Some(before), Some(after)) => (ChangeKind::Changed, changed_fields(before, after)),
        (None, Some(after)) => (ChangeKind::Added, all_fields(after, false)),
        (Some(before), None) => (ChangeKind::Removed, all_fields(before, true)),
        (None, None) => return None,
    };
    let entry = DiffEntry { key: key.into(), kind, fields };
    Some(Step { entry, before: before.cloned(), after })
}

/// Sections in the order of a settings file.
fn order(entry: &DiffEntry) -> (usize, String) {
    const ORDER: [&str; 7] =
        ["defaults", "domain", "outgoing_user", "egress_source", "egress_pool", "dkim_key", "route"];
    let section = entry.key.split('/').next().unwrap_or_default();
    (ORDER.iter().position(|s| *s == section).unwrap_or(ORDER.len()), entry.key.clone())
}

fn changed_fields(before: &Setting, after: &Setting) -> Vec<FieldChange> {
    let (before, after) = (flat(before), flat(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            before: before.get(name).map(|value| shown(name, value)),
            after: after.get(name).map(|value| shown(name, value)),
        })
        .collect()
}

fn all_fields(setting: &Setting, removed: bool) -> Vec<FieldChange> {
    flat(setting)
        .into_iter()
        .map(|(name, value)| {
            let value = Some(shown(&name, &value));
            let (before, after) = if removed { (value, None) } else { (None, value) };
            FieldChange { field: name, before, after }
        })
        .collect()
}

fn shown(name: &str, value: &Value) -> Value {
    if redact::is_secret(name.rsplit('.').next().unwrap_or(name)) {
        Value::String(redact::SECRET.into())
    } else {
        value.clone()
    }
}

/// Fields by dotted path, named as in a settings file: the settings of a level without the word `settings` before them,
/// the authentication without the word `auth`.
fn flat(setting: &Setting) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    // By way of its text, in which 0.15 is 0.15 and not the nearest number of 32 bits.
    let value = serde_json::to_string(setting).and_then(|text| serde_json::from_str(&text));
    if let Ok(Value::Object(fields)) = value {
        for (name, value) in fields {
            match name.as_str() {
                "kind" => {}
                "settings" | "auth" => flatten("", &value, &mut out),
                _ => flatten(&name, &value, &mut out),
            }
        }
    }
    out.remove("by");
    out
}

fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, out);
            }
        }
        Value::Null => {}
        other => {
            out.insert(path.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings_file;

    fn settings(text: &str) -> Vec<Setting> {
        let wanted = settings_file::parse(text, &BTreeMap::new(), &SettingsView::default()).unwrap();
        wanted.settings
    }

    fn view(settings: &[Setting]) -> SettingsView {
        let mut view = SettingsView::default();
        for (offset, setting) in settings.iter().enumerate() {
            let value = serde_json::to_vec(setting).unwrap();
            view.apply(setting.key().as_bytes(), Some(&value), offset as u64).unwrap();
        }
        view
    }

    const ONE: &str = "[[domain]]\nname = \"a.example\"\nlimits = { messages_per_hour = 5 }\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"192.0.2.1\"\n";

    #[test]
    fn the_same_settings_are_no_difference() {
        assert!(declarative(&view(&settings(ONE)), settings(ONE)).is_empty());
    }

    #[test]
    fn numbers_are_shown_as_they_were_written() {
        let two = ONE.replace("limits =", "spam_threshold = 0.15\nlimits =");
        let steps = declarative(&view(&settings(ONE)), settings(&two));
        let shown = steps[0].entry.fields[0].after.as_ref().map(ToString::to_string);
        assert_eq!(shown.as_deref(), Some("0.15"));
    }

    #[test]
    fn each_changed_field_is_told() {
        let two = ONE.replace("messages_per_hour = 5", "messages_per_hour = 6, messages_per_day = 9");
        let steps = declarative(&view(&settings(ONE)), settings(&two));
        let [step] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((step.entry.key.as_str(), step.entry.kind), ("domain/a.example", ChangeKind::Changed));
        let fields: Vec<_> =
            step.entry.fields.iter().map(|f| (f.field.as_str(), f.before.clone(), f.after.clone())).collect();
        assert_eq!(
            fields,
            [
                ("limits.messages_per_day", None, Some(9.into())),
                ("limits.messages_per_hour", Some(5.into()), Some(6.into()))
            ]
        );
    }

    #[test]
    fn what_the_file_does_not_name_is_removed_but_for_keys() {
        let mut current = settings(ONE);
        current.push(Setting::DkimKey(schemas::settings::DkimKey {
            domain: schemas::Domain::parse("a.example").unwrap(),
            selector: "s1".into(),
            algorithm: schemas::settings::DkimAlgorithm::RsaSha256,
            sealed_private_key: "sealed".into(),
            public_key: "public".into(),
            created_at: None,
        }));
        let steps = declarative(&view(&current), Vec::new());
        let keys: Vec<_> = steps.iter().map(|s| (s.entry.key.as_str(), s.entry.kind)).collect();
        assert_eq!(
            keys,
            [("domain/a.example", ChangeKind::Removed), ("outgoing_user/192.0.2.1/32", ChangeKind::Removed)]
        );
    }

    #[test]
    fn secrets_show_that_they_change_but_not_what_they_are() {
        let user = |hash: &str| {
            Setting::OutgoingUser(schemas::settings::OutgoingUser {
                domain: schemas::Domain::parse("a.example").unwrap(),
                auth: schemas::settings::UserAuth::Password {
                    login: "a.example".into(),
                    password_hash: hash.into(),
                },
                settings: schemas::settings::UserSettings::default(),
            })
        };
        let step = put(&view(&[user("hash-one")]), user("hash-two")).unwrap();
        let text = serde_json::to_string(&step.entry).unwrap();
        assert!(
            text.contains("password_hash") && !text.contains("hash-one") && !text.contains("hash-two"),
            "{text}"
        );
        assert!(!redact::setting(&user("hash-one")).to_string().contains("hash-one"));
    }
}
