//! A TOML document as a tree in which every value knows its key path and its line.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean};

/// Keys whose values are never shown.
const SECRET_KEYS: [&str; 3] = ["password", "password_hash", "private_key"];
const MAX_SHOWN_CHARS: usize = 60;

/// A value of the document.
#[derive(Debug)]
pub struct Node {
    pub path: String,
    pub line: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Leaf(Value),
}

/// Parses a document.
///
/// # Errors
/// Every place that is no TOML.
pub fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    if errors.is_empty() {
        return Ok(Node { path: String::new(), line: 1, kind: table(&lines, "", document.get_ref()) });
    }
    let problem = |error: &toml::de::Error| Problem {
        line: lines.at(error.span().map_or(0, |span| span.start)),
        key: "(syntax)".into(),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
        fix: "correct the line; texts stand in double quotes, lists in [ ], tables in { }".into(),
    };
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    problems.sort_by_key(|problem| problem.line);
    Err(problems)
}

fn table(lines: &Lines, path: &str, table: &DeTable<'_>) -> Kind {
    let entries = table.iter().map(|(key, value)| {
        let name = key.get_ref().to_string();
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        (name, node(lines, path, lines.at(key.span().start), value))
    });
    Kind::Table(entries.collect())
}

fn node(lines: &Lines, path: String, line: usize, value: &Spanned<DeValue<'_>>) -> Node {
    let kind = match value.get_ref() {
        DeValue::Table(inner) => table(lines, &path, inner),
        DeValue::Array(items) => Kind::List(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    node(lines, format!("{path}[{index}]"), lines.at(item.span().start), item)
                })
                .collect(),
        ),
        DeValue::String(text) => Kind::Leaf(Value::String(text.to_string())),
        DeValue::Boolean(flag) => Kind::Leaf(Value::Bool(*flag)),
        DeValue::Integer(integer) => Kind::Leaf(integer_value(integer.as_str(), integer.radix())),
        // A number that JSON does not have stays a text, which no reader of numbers takes.
        DeValue::Float(float) => Kind::Leaf(
            float
                .as_str()
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or_else(|| Value::String(float.as_str().to_owned()), Value::Number),
        ),
        DeValue::Datetime(at) => Kind::Leaf(Value::String(at.to_string())),
    };
    Node { path, line, kind }
}

fn integer_value(digits: &str, radix: u32) -> Value {
    match i64::from_str_radix(digits, radix) {
        Ok(number) => Value::Number(number.into()),
        Err(_) => u64::from_str_radix(digits, radix)
            .map_or_else(|_| Value::String(digits.to_owned()), |number| Value::Number(number.into())),
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Lines(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).max(1)
    }
}

impl Node {
    /// The value of a key; none when it is absent, or this is no table.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Table(entries) => entries.get(key),
            _ => None,
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        let entries = match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(key, node)| (key.as_str(), node))
    }

    #[must_use]
    pub fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Table(_))
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Leaf(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.kind {
            Kind::Table(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), node.json())).collect())
            }
            Kind::List(items) => Value::Array(items.iter().map(Node::json).collect()),
            Kind::Leaf(value) => value.clone(),
        }
    }

    /// The value as a `T`.
    ///
    /// # Errors
    /// A problem that shows the value.
    pub fn read<T: DeserializeOwned>(&self, fix: &str) -> Result<T, Problem> {
        serde_json::from_value(self.json()).map_err(|error| self.problem(self.says(&error.to_string()), fix))
    }

    /// The text, parsed; `what` is what it should be: `a domain`.
    ///
    /// # Errors
    /// A problem that shows the value.
    pub fn parse<T>(
        &self,
        what: &str,
        fix: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        self.text()
            .and_then(parse)
            .ok_or_else(|| self.problem(format!("`{}` is not {what}", self.shown()), fix))
    }

    #[must_use]
    pub fn problem(&self, message: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { line: self.line, key: self.path.clone(), message: message.into(), fix: fix.into() }
    }

    /// A problem with a key that is not there.
    #[must_use]
    pub fn missing(&self, key: &str, fix: impl Into<String>) -> Problem {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Problem { line: self.line, key: path, message: "is missing".into(), fix: fix.into() }
    }

    /// One problem for every key that is not among `known`.
    #[must_use]
    pub fn unknown_keys(&self, known: &[&str]) -> Vec<Problem> {
        let unknown = self.entries().filter(|(key, _)| !known.contains(key));
        unknown
            .map(|(key, node)| {
                let fix = did_you_mean(key, known.iter().copied(), || {
                    format!("remove it; known here are {}", known.join(", "))
                });
                node.problem("there is no such key", fix)
            })
            .collect()
    }

    /// The value for an error message: cut, and never a secret.
    #[must_use]
    pub fn shown(&self) -> String {
        if SECRET_KEYS.iter().any(|key| self.path.rsplit('.').next() == Some(*key)) {
            return "<secret>".into();
        }
        let text = match &self.kind {
            Kind::Leaf(Value::String(text)) => text.clone(),
            _ => self.json().to_string(),
        };
        if SECRET_KEYS.iter().any(|key| !matches!(self.kind, Kind::Leaf(_)) && text.contains(key)) {
            return "{...}".into();
        }
        let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        match clean.char_indices().nth(MAX_SHOWN_CHARS) {
            Some((at, _)) => format!("{}...", &clean[..at]),
            None => clean,
        }
    }

    /// What a deserializer says, in the words of the file's writer and with the value as it stands there.
    pub fn says(&self, error: &str) -> String {
        let shown = self.shown();
        match error.rsplit_once("expected ") {
            Some((head, expected)) if head.starts_with("invalid ") => {
                format!("`{shown}` is not {}", in_words(expected))
            }
            _ if error.starts_with("unknown variant") => format!("`{shown}` is none of the choices"),
            _ if error.contains("untagged enum") => {
                format!("`{shown}` has a key that is not known, or a wrong value")
            }
            _ if error.starts_with('`') => error.split(": use ").next().unwrap_or(error).to_owned(),
            _ => format!("`{shown}`: {error}"),
        }
    }
}

/// What the file's writer calls what a deserializer expects.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that fits",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "a string" | "string or map" => "a text",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_path_and_line() {
        let root =
            parse("[defaults]\nspam_action = \"observe\"\n\n[[user]]\n[[user]]\nlist = [\n 1,\n 0x10\n]\n")
                .unwrap();
        let second = &root.get("user").unwrap().items().unwrap()[1];
        let list = second.get("list").unwrap();
        assert_eq!((list.path.as_str(), list.line), ("user[1].list", 6));
        let item = &list.items().unwrap()[1];
        assert_eq!((item.path.as_str(), item.line, item.json()), ("user[1].list[1]", 8, 16.into()));
    }

    #[test]
    fn secrets_are_not_shown() {
        let root = parse("password = \"hunter2\"").unwrap();
        assert_eq!(root.get("password").unwrap().shown(), "<secret>");
        let root = parse("login = { password = \"hunter2\" }").unwrap();
        assert_eq!(root.get("login").unwrap().shown(), "{...}");
    }

    #[test]
    fn every_syntax_error_is_told() {
        let problems = parse("a = \nb = 1\nc = [1,\n").unwrap_err();
        assert_eq!(problems[0].line, 1);
        assert!(problems.len() > 1, "{problems:?}");
    }
}
