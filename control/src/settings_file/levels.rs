//! The settings that stand at all three levels: defaults, domain, outgoing user.

use schemas::settings::{AutomaticLock, IdentityRule, Limits, UserSettings};
use schemas::verdict::Classification;
use schemas::{Domain, Mailbox};
use serde_json::Value;

use crate::field_names::field_names;

use super::node::Node;
use super::problem::{Problem, closest, did_you_mean};

/// Largest message that may be allowed, in bytes (1 GiB).
const MAX_MESSAGE_BYTES: u64 = 1 << 30;
const MAX_CONNECTIONS: u32 = 10_000;

/// What to write for a key.
fn fix_for(key: &str) -> &'static str {
    match key {
        "identification" => {
            "write a list of \"auto\", \"envelope\", \"user\", \"header:NAME\" or { header = \"NAME\", occurrence = \"last\", regex = \"...\", remove = true }"
        }
        "limits" => "write whole numbers, as { messages_per_hour = 500, recipients_per_day = 2000 }",
        "over_limit" => "write \"defer\", \"reject\" or \"hold\"",
        "automatic_lock" => {
            "write { identity = true, user = false, blocked_messages = 5, within_minutes = 10, timeout_minutes = 60, max_unlocks = 2, notice = true }, or some of these"
        }
        "spam_action" => "write \"enforce\" or \"observe\"",
        "spam_threshold" => "write a number from 0 to 1, as 0.98",
        "quarantine_response" => "write \"reject\" or \"accept\"",
        "require_valid_sender" => "write true or false",
        "from_domains" => "write a list of domains, as [\"customer.example\"]",
        "allow_senders" | "block_senders" | "allow_recipients" | "block_recipients" => {
            "write a list of addresses and domains, as [\"shop@customer.example\", \"other.example\"]"
        }
        "blocked_extensions" => "write a list of extensions, as [\"exe\", \"scr\"]",
        "max_connections" => "write a whole number, as 10",
        "max_message_bytes" => "write a whole number of bytes, as 52428800",
        "max_retry_days" => "write a number of days, as 4",
        "delivery_pool" => "write the name of an [[egress_pool]]",
        "dkim_selector" => "write the selector of a DKIM key of the domain, as \"s1\"",
        "checks" => "write \"off\", \"count\" or \"block\" for each, as { raw_subject = \"block\" }",
        "weights" => "write a number from 0 to 10 for each, as { RAW_SUBJECT = 2.0, CONTENT = 0.5 }",
        _ => "see settings.toml in the examples",
    }
}

/// The names of the keys at every level.
#[must_use]
pub fn keys() -> &'static [&'static str] {
    field_names::<UserSettings>()
}

/// Reads one level; keys that belong to the table itself and not to the level are `own`.
pub fn read(table: &Node, own: &[&str], problems: &mut Vec<Problem>) -> UserSettings {
    let known: Vec<&str> = own.iter().chain(keys()).copied().collect();
    problems.extend(table.unknown_keys(&known).into_iter().map(|problem| limit_out_of_place(table, problem)));
    let mut good = serde_json::Map::new();
    for (key, node) in table.entries().filter(|(key, _)| keys().contains(key)) {
        let found = problems_of(key, node);
        if found.is_empty() {
            good.insert(key.to_owned(), node.json());
        }
        problems.extend(found);
    }
    let settings = serde_json::from_value(Value::Object(good)).unwrap_or_else(|error| {
        problems.push(table.problem(error.to_string(), "see settings.toml in the examples"));
        UserSettings::default()
    });
    check(table, &settings, problems);
    settings
}

/// A limit that stands beside `limits` in place of inside it gets that as its fix.
fn limit_out_of_place(table: &Node, problem: Problem) -> Problem {
    let key = problem.key.rsplit('.').next().unwrap_or(&problem.key);
    match (closest(key, field_names::<Limits>().iter().copied()), table.get(key)) {
        (Some(limit), Some(node)) => {
            let fix = format!("write it inside limits, as limits = {{ {limit} = {} }}", node.shown());
            Problem { fix, ..problem }
        }
        _ => problem,
    }
}

/// What is wrong with the value of one key, as deep inside it as can be told.
fn problems_of(key: &str, node: &Node) -> Vec<Problem> {
    let Err(error) = try_read(key, node.json()) else { return Vec::new() };
    if key == "limits" && node.is_table() {
        let mut found = node.unknown_keys(field_names::<Limits>());
        found.extend(
            inner(node, |name, value| try_read("limits", named(name, value)))
                .filter(|p| !found.iter().any(|unknown| unknown.key == p.key))
                .map(|problem| Problem { fix: "write a whole number, as 500".into(), ..problem })
                .collect::<Vec<_>>(),
        );
        return found;
    }
    if key == "automatic_lock" && node.is_table() {
        let unknown = node.unknown_keys(field_names::<AutomaticLock>());
        if !unknown.is_empty() {
            return unknown;
        }
    }
    let inside: Vec<Problem> = match node.items() {
        Some(items) => items
            .iter()
            .filter_map(|item| {
                let error = try_read(key, Value::Array(vec![item.json()])).err()?;
                Some(item.problem(item.says(&error), fix_for(key)))
            })
            .collect(),
        None => inner(node, |name, value| try_read(key, named(name, value)))
            .map(|problem| Problem { fix: fix_for(key).into(), ..problem })
            .collect(),
    };
    if inside.is_empty() { vec![node.problem(node.says(&error), fix_for(key))] } else { inside }
}

fn inner<'a>(
    node: &'a Node,
    read: impl Fn(&str, Value) -> Result<(), String> + 'a,
) -> impl Iterator<Item = Problem> + 'a {
    node.entries().filter_map(move |(name, value)| {
        let error = read(name, value.json()).err()?;
        Some(value.problem(value.says(&error), ""))
    })
}

fn named(name: &str, value: Value) -> Value {
    Value::Object(std::iter::once((name.to_owned(), value)).collect())
}

fn try_read(key: &str, value: Value) -> Result<(), String> {
    serde_json::from_value::<UserSettings>(named(key, value)).map(|_| ()).map_err(|error| error.to_string())
}

/// What no type can say.
fn check(table: &Node, settings: &UserSettings, problems: &mut Vec<Problem>) {
    let at = |key: &str| table.get(key);
    if let (Some(node), Some(rules)) = (at("identification"), &settings.identification) {
        check_rules(node, rules, problems);
    }
    if let (Some(node), Some(limits)) = (at("limits"), &settings.limits) {
        check_limits(node, limits, problems);
    }
    if let (Some(node), Some(lock)) = (at("automatic_lock"), &settings.automatic_lock) {
        check_lock(node, lock, problems);
    }
    for key in ["allow_senders", "block_senders", "allow_recipients", "block_recipients"] {
        at(key).into_iter().for_each(|node| check_addresses(node, key, problems));
    }
    if let Some(node) = at("blocked_extensions") {
        check_extensions(node, problems);
    }
    if let Some(node) = at("checks") {
        check_codes(node, problems);
    }
    if let Some(node) = at("weights") {
        check_weights(node, problems);
    }
    let mut range = |key: &str, ok: bool, message: &str| {
        if let Some(node) = at(key).filter(|_| !ok) {
            problems.push(node.problem(format!("`{}` {message}", node.shown()), fix_for(key)));
        }
    };
    let connections = settings.max_connections.unwrap_or(1);
    range("max_connections", (1..=MAX_CONNECTIONS).contains(&connections), "is not between 1 and 10000");
    let bytes = settings.max_message_bytes.unwrap_or(1024);
    range(
        "max_message_bytes",
        (1024..=MAX_MESSAGE_BYTES).contains(&bytes),
        "is not between 1024 (1 KiB) and 1073741824 (1 GiB)",
    );
    let threshold = settings.spam_threshold.unwrap_or(0.5);
    range("spam_threshold", (0.0..=1.0).contains(&threshold), "is not between 0 and 1");
    let days = settings.max_retry_days.unwrap_or(1.0);
    range("max_retry_days", days > 0.0 && days <= 30.0, "is not more than 0 and at most 30");
}

fn check_rules(node: &Node, rules: &[IdentityRule], problems: &mut Vec<Problem>) {
    if rules.is_empty() {
        problems.push(
            node.problem("the list is empty", format!("{}, or remove the key", fix_for("identification"))),
        );
    }
    for (rule, item) in rules.iter().zip(node.items().unwrap_or_default()) {
        let IdentityRule::Header { regex: Some(regex), .. } = rule else { continue };
        if let Err(error) = regex::Regex::new(regex) {
            let at = item.get("regex").unwrap_or(item);
            let detail =
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            problems.push(at.problem(
                format!("`{}` is no regular expression: {detail}", at.shown()),
                "correct it; a part in parentheses, if there is one, becomes the identity",
            ));
        }
    }
}

fn check_limits(node: &Node, limits: &Limits, problems: &mut Vec<Problem>) {
    let windows = [
        ("messages_per_minute", limits.messages_per_minute),
        ("messages_per_hour", limits.messages_per_hour),
        ("messages_per_day", limits.messages_per_day),
        ("messages_per_month", limits.messages_per_month),
    ];
    let recipients = [
        ("distinct_recipients_per_day", limits.distinct_recipients_per_day),
        ("recipients_per_day", limits.recipients_per_day),
    ];
    let invalid = [("invalid_recipients_per_day", limits.invalid_recipients_per_day)];
    for (name, value) in windows.iter().chain(&recipients).chain(&invalid) {
        if let (Some(0), Some(at)) = (value, node.get(name)) {
            problems.push(at.problem(
                "`0` would let nothing through",
                "remove the limit, or lock the user with `mailweir lock`",
            ));
        }
    }
    check_share(node, limits, problems);
    for group in [&windows[..], &recipients[..]] {
        let set: Vec<(&str, u64)> =
            group.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
        for pair in set.windows(2) {
            let [(smaller, first), (larger, second)] = pair else { continue };
            if let Some(at) = node.get(smaller).filter(|_| first > second && *second > 0) {
                problems.push(at.problem(
                    format!("`{first}` can never be reached, since {larger} is {second}"),
                    format!("make it {second} or less, or raise {larger}"),
                ));
            }
        }
    }
}

fn check_share(node: &Node, limits: &Limits, problems: &mut Vec<Problem>) {
    if let (Some(percent), Some(at)) =
        (limits.invalid_recipients_percent, node.get("invalid_recipients_percent"))
        && !(1..=99).contains(&percent)
    {
        problems.push(at.problem(
            format!("`{percent}` is not between 1 and 99"),
            "write the largest share that is let through, in percent, as 10",
        ));
    }
    let Some(at) = node.get("invalid_recipients_min_sample") else { return };
    match (limits.invalid_recipients_min_sample, limits.invalid_recipients_percent) {
        (Some(0), _) => problems.push(at.problem(
            "`0` recipients have no share of invalid ones",
            "write how many recipients of a day there must be before the share counts, as 50",
        )),
        (Some(_), None) => problems.push(at.problem(
            "it says from how many recipients on invalid_recipients_percent counts, which is not set",
            "add invalid_recipients_percent, or remove it",
        )),
        _ => {}
    }
}

fn check_lock(node: &Node, lock: &AutomaticLock, problems: &mut Vec<Problem>) {
    for (key, value, max, unit) in [
        ("blocked_messages", lock.blocked_messages, 100, ""),
        ("within_minutes", lock.within_minutes, 24 * 60, " (one day)"),
        ("timeout_minutes", lock.timeout_minutes, 7 * 24 * 60, " (one week)"),
        ("max_unlocks", lock.max_unlocks, 100, ""),
    ] {
        if let (Some(value), Some(at)) = (value, node.get(key))
            && !(1..=max).contains(&value)
        {
            problems.push(at.problem(
                format!("`{value}` is not between 1 and {max}{unit}"),
                "write a number in this range",
            ));
        }
    }
}

fn check_addresses(node: &Node, key: &str, problems: &mut Vec<Problem>) {
    for item in node.items().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let domain =
            ["*@", "@", "*.", "."].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        if Domain::parse(domain).is_err() && Mailbox::parse(text).is_err() {
            problems.push(
                item.problem(format!("`{}` is neither an address nor a domain", item.shown()), fix_for(key)),
            );
        }
    }
}

fn check_extensions(node: &Node, problems: &mut Vec<Problem>) {
    for item in node.items().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let bare = text.trim().trim_start_matches("*.").trim_start_matches('.');
        let good = !bare.is_empty() && bare.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        if !good {
            problems.push(item.problem(
                format!("`{}` is no file name extension", item.shown()),
                fix_for("blocked_extensions"),
            ));
        }
    }
}

/// Names are those of symbols. Any is accepted, since engines bring their own.
fn check_weights(node: &Node, problems: &mut Vec<Problem>) {
    for (name, value) in node.entries() {
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            problems.push(value.problem(
                format!("`{name}` is no name of a symbol"),
                "write it as verdicts show it, in capital letters, as RAW_SUBJECT",
            ));
        }
        // What is no number was told already.
        if value.json().as_f64().is_some_and(|factor| !(0.0..=10.0).contains(&factor)) {
            problems.push(
                value.problem(format!("`{}` is not between 0 and 10", value.shown()), fix_for("weights")),
            );
        }
    }
}

/// Codes are those of classifications; a check that the scorer does not have yet is accepted, so that a settings file
/// serves nodes of two versions.
fn check_codes(node: &Node, problems: &mut Vec<Problem>) {
    for (code, value) in node.entries() {
        use Classification as C;
        let class = serde_json::from_value(Value::String(code.into())).unwrap_or(C::Unknown);
        if !matches!(class, C::Unknown | C::Own | C::Clean | C::Suspect | C::AllowListed | C::ObserveOnly) {
            continue;
        }
        let fix = did_you_mean(code, SWITCHABLE, || format!("use one of {}", SWITCHABLE.join(", ")));
        problems.push(value.problem("there is no such check", fix));
    }
}

/// Codes of what `checks` switches: each check of the scorer, what it asks others about, and its score (`spam`).
pub const SWITCHABLE: [&str; 22] = [
    "spam",
    "too_many_received",
    "blocked_attachment",
    "from_domain_not_allowed",
    "line_too_long",
    "too_many_parts",
    "duplicate_header",
    "header_too_long",
    "null_path_many_recipients",
    "message_partial",
    "restricted_characters",
    "invalid_helo",
    "date_off",
    "raw_subject",
    "missing_date",
    "missing_from",
    "many_from",
    "malformed_header",
    "invalid_sender",
    "listed_host",
    "dmarc",
    "bulk_sender",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_settings_come_from_their_type() {
        assert!(keys().contains(&"max_retry_days") && keys().contains(&"dkim_selector"));
        assert!(field_names::<Limits>().contains(&"distinct_recipients_per_day"));
    }

    #[test]
    fn every_switchable_code_is_one() {
        for code in SWITCHABLE {
            let c: Classification = serde_json::from_value(Value::String(code.into())).unwrap();
            assert_eq!(c.code(), code);
        }
    }
}
