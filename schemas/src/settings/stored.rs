//! Reading a stored setting. What people write is refused when a key or value is not known (`control` does that); what a later
//! version stored must not make this one forget a customer.

use serde_json::{Map, Value};

use super::{Setting, UserSettings};

impl Setting {
    /// Reads a record of `settings`. What it sets and this version does not know is taken as absent, so that the level above
    /// or the default holds, and is named in the second part, as `limits.messages_per_week`:
    ///
    /// - a key of a level, of its limits or of its automatic lock,
    /// - a value that is none of the choices (`spam_action`, a check's mode ...),
    /// - an identification rule: one with a part that is not known must not be applied by halves.
    ///
    /// # Errors
    /// When what is left is no setting: a way to authenticate that is not known, for instance.
    pub fn from_stored(value: &[u8]) -> Result<(Self, Vec<String>), serde_json::Error> {
        let error = match serde_json::from_slice(value) {
            Ok(setting) => return Ok((setting, Vec::new())),
            Err(error) => error,
        };
        let mut record: Value = serde_json::from_slice(value)?;
        let Some(Value::Object(settings)) = record.get_mut("settings") else { return Err(error) };
        let ignored = remove_unknown(settings);
        Ok((serde_json::from_value(record)?, ignored))
    }
}

/// Removes what does not read, as little of it as can be, and names it.
fn remove_unknown(settings: &mut Map<String, Value>) -> Vec<String> {
    let mut ignored = Vec::new();
    settings.retain(|key, value| {
        if reads(key, value.clone()) {
            return true;
        }
        let is_left = match value {
            Value::Object(entries) => {
                entries.retain(|name, value| {
                    let good = reads(key, Value::Object(Map::from_iter([(name.clone(), value.clone())])));
                    if !good {
                        ignored.push(format!("{key}.{name}"));
                    }
                    good
                });
                !entries.is_empty()
            }
            Value::Array(items) => {
                let before = items.len();
                items.retain(|item| reads(key, Value::Array(vec![item.clone()])));
                if items.len() < before {
                    ignored.push(format!("{key}[]"));
                }
                !items.is_empty()
            }
            _ => false,
        };
        // Empty limits are no limits at all, an empty list lets everybody pass: not what was meant. Absent is inherited.
        let good = is_left && reads(key, value.clone());
        if !good {
            ignored.push(key.clone());
        }
        good
    });
    ignored
}

fn reads(key: &str, value: Value) -> bool {
    serde_json::from_value::<UserSettings>(Value::Object(Map::from_iter([(key.to_owned(), value)]))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{IdentityRule, Limits, OutgoingUser, SpamAction};

    fn read(settings: &str) -> (UserSettings, Vec<String>) {
        let record = format!(
            r#"{{"kind":"outgoing_user","domain":"a.example","auth":{{"by":"ip","range":"192.0.2.1/32"}},"settings":{settings}}}"#
        );
        match Setting::from_stored(record.as_bytes()).unwrap() {
            (Setting::OutgoingUser(OutgoingUser { settings, .. }), ignored) => (settings, ignored),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_known_stays_and_what_is_not_is_inherited() {
        let (settings, ignored) = read(
            r#"{"colour": "blue", "spam_action": "tag", "max_connections": 3,
                "limits": {"messages_per_week": 5, "messages_per_day": 2},
                "automatic_lock": {"severity": 3},
                "checks": {"raw_subject": "rewrite", "date_off": "off"},
                "identification": [{"header": "X-A", "decode": "base64"}, "sasl", "header:X-B"]}"#,
        );
        assert_eq!((settings.spam_action, settings.max_connections), (None, Some(3)));
        assert_eq!(settings.limits, Some(Limits { messages_per_day: Some(2), ..Limits::default() }));
        assert_eq!(settings.automatic_lock, None);
        assert_eq!(settings.checks.unwrap().into_keys().collect::<Vec<_>>(), ["date_off"]);
        assert!(
            matches!(&settings.identification.unwrap()[..], [IdentityRule::Header { name, .. }] if name == "X-B")
        );
        assert_eq!(
            ignored,
            [
                "automatic_lock.severity",
                "automatic_lock",
                "checks.raw_subject",
                "colour",
                "identification[]",
                "limits.messages_per_week",
                "spam_action"
            ]
        );
    }

    #[test]
    fn what_is_known_altogether_is_taken_as_it_is() {
        let (settings, ignored) = read(r#"{"spam_action": "observe", "limits": {}}"#);
        assert_eq!(
            (settings.spam_action, settings.limits),
            (Some(SpamAction::Observe), Some(Limits::default()))
        );
        assert!(ignored.is_empty());
    }

    #[test]
    fn who_a_user_is_cannot_be_left_out() {
        let later = br#"{"kind":"outgoing_user","domain":"a.example","auth":{"by":"certificate"},"settings":{"colour":1}}"#;
        assert!(Setting::from_stored(later).is_err());
        assert!(Setting::from_stored(b"\x00").is_err() && Setting::from_stored(b"{}").is_err());
    }
}
