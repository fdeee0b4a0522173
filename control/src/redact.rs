//! Settings as people may see them: no password hashes, no private keys.

use schemas::settings::Setting;
use serde_json::Value;

/// Stands where a secret was left out.
pub const SECRET: &str = "<secret>";

/// The fields of settings that hold secrets, wherever they stand.
const SECRET_FIELDS: [&str; 2] = ["password_hash", "sealed_private_key"];

/// A setting as JSON without its secrets.
#[must_use]
pub fn setting(setting: &Setting) -> Value {
    let mut value = serde_json::to_value(setting).unwrap_or(Value::Null);
    remove(&mut value);
    value
}

fn remove(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) {
                    *value = Value::String(SECRET.into());
                } else {
                    remove(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(remove),
        _ => {}
    }
}

/// Whether a field of this name holds a secret.
#[must_use]
pub fn is_secret(field: &str) -> bool {
    SECRET_FIELDS.contains(&field)
}
