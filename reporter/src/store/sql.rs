//! The product's questions as SQL that every engine understands: `?` for values, integer ranges, SUM, GROUP BY.

use super::query::{Group, LogFilter, StatsFilter};

pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Lines of the message log when no limit is given.
const DEFAULT_LINES: u32 = 100;

/// A value for a `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
}

/// A statement and its values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub sql: String,
    pub values: Vec<Value>,
}

/// Columns in the order of [`super::query::LogLine`].
const LOG_COLUMNS: &str = "message_id, recipient, accepted_at, at, user, domain, identity, reverse_path, \
     forward_path, classification, outcome, size_bytes, tries, header_message_id, client_queue_id, subject, reply, \
     remote, egress, own";

pub(crate) fn log(filter: &LogFilter) -> Statement {
    let conditions = log_conditions(filter);
    let lines = filter.limit.unwrap_or(DEFAULT_LINES);
    Statement {
        sql: format!(
            "SELECT {LOG_COLUMNS} FROM recipients WHERE {} ORDER BY accepted_at DESC, message_id, recipient LIMIT {lines}",
            conditions.text()
        ),
        values: conditions.values,
    }
}

/// Sums in the order of [`super::query::StatsLine`], after the group.
pub(crate) fn stats(filter: &StatsFilter, group: Group) -> Statement {
    let column = group.column();
    let mut conditions = Conditions::default();
    conditions.equal("domain", filter.domain.as_deref());
    conditions.equal("user", filter.user.as_deref());
    conditions.equal("identity", filter.identity.as_deref());
    conditions.at_least("hour", filter.since.map(|ms| ms.div_euclid(HOUR_MS) * HOUR_MS));
    conditions.less("hour", filter.until);
    let order = if group == Group::Hour { "1" } else { "2 DESC, 3 DESC, 1" };
    Statement {
        sql: format!(
            "SELECT {column}, SUM(messages), SUM(recipients), SUM(bytes), SUM(quarantined), SUM(delivered), \
             SUM(failed), SUM(removed), SUM(deferrals) FROM hourly WHERE {} GROUP BY {column} ORDER BY {order}",
            conditions.text()
        ),
        values: conditions.values,
    }
}

/// Our ids sort by time.
pub(crate) fn find(text: &str) -> Statement {
    let text = bare_id(text);
    let id = text.to_ascii_uppercase();
    Statement {
        sql: "SELECT message_id FROM (SELECT message_id FROM recipients WHERE message_id = ? \
              UNION SELECT message_id FROM recipients WHERE client_queue_id = ? \
              UNION SELECT message_id FROM recipients WHERE header_message_id = ? \
              UNION SELECT message_id FROM events WHERE message_id = ?) AS named ORDER BY message_id DESC LIMIT 100"
            .into(),
        values: vec![
            Value::Text(id.clone()),
            Value::Text(text.to_owned()),
            Value::Text(text.to_owned()),
            Value::Text(id),
        ],
    }
}

/// A verdict comes before an attempt of the same millisecond.
pub(crate) fn events(message_id: &str) -> Statement {
    Statement {
        sql: "SELECT at, topic, log_partition, log_offset FROM events WHERE message_id = ? \
              ORDER BY at, topic DESC, log_offset"
            .into(),
        values: vec![Value::Text(message_id.to_owned())],
    }
}

/// A Message-ID may be given with its angle brackets.
fn bare_id(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text)
}

/// A WHERE clause being put together.
#[derive(Default)]
struct Conditions {
    parts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn equal(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.parts.push(format!("{column} = ?"));
            self.values.push(Value::Text(value.to_owned()));
        }
    }

    fn at_least(&mut self, column: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.parts.push(format!("{column} >= ?"));
            self.values.push(Value::Integer(value));
        }
    }

    fn less(&mut self, column: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.parts.push(format!("{column} < ?"));
            self.values.push(Value::Integer(value));
        }
    }

    fn text(&self) -> String {
        if self.parts.is_empty() { "1 = 1".to_owned() } else { self.parts.join(" AND ") }
    }
}

fn log_conditions(filter: &LogFilter) -> Conditions {
    let mut conditions = Conditions::default();
    if let Some(id) = filter.id.as_deref().map(bare_id) {
        conditions.parts.push("(message_id = ? OR client_queue_id = ? OR header_message_id = ?)".to_owned());
        let texts = [id.to_ascii_uppercase(), id.to_owned(), id.to_owned()];
        conditions.values.extend(texts.map(Value::Text));
    }
    conditions.equal("user", filter.user.as_deref());
    conditions.equal("domain", filter.domain.as_deref());
    conditions.equal("identity", filter.identity.as_deref());
    conditions.equal("classification", filter.classification.as_deref());
    conditions.equal("outcome", filter.outcome.as_deref());
    match filter.recipient.as_deref().map(|recipient| (recipient.strip_prefix('@'), recipient)) {
        Some((Some(domain), _)) => conditions.equal("destination", Some(domain)),
        Some((None, forward_path)) => conditions.equal("forward_path", Some(forward_path)),
        None => {}
    }
    let null_or = |path| if path == "<>" { "" } else { path };
    conditions.equal("reverse_path", filter.reverse_path.as_deref().map(null_or));
    conditions.at_least("accepted_at", filter.since);
    conditions.less("accepted_at", filter.until);
    if !filter.own && filter.id.is_none() {
        conditions.parts.push("own = 0".to_owned());
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_stand_in_the_text() {
        let filter = LogFilter {
            id: Some("<x'y@z>".into()),
            recipient: Some("@d'".into()),
            reverse_path: Some("<>".into()),
            since: Some(7),
            ..LogFilter::default()
        };
        let statement = log(&filter);
        assert!(!statement.sql.contains('\''), "{}", statement.sql);
        let text = |t: &str| Value::Text(t.into());
        let expected = [text("X'Y@Z"), text("x'y@z"), text("x'y@z"), text("d'"), text(""), Value::Integer(7)];
        assert_eq!(statement.values, expected);
        assert_eq!(statement.sql.matches('?').count(), expected.len());
    }
}
