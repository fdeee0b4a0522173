//! The server, over HTTP: one statement a request, answers as JSON arrays.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Target, plain};
use crate::Error;
use crate::store::sql::{Statement, Value};

const CONNECT: Duration = Duration::from_secs(5);
/// For one statement of mail's way: a server that hangs must not hold up the end of the process.
pub(super) const UNANSWERED: Duration = Duration::from_secs(30);
/// For one that rewrites a month.
const LONG: Duration = Duration::from_secs(3600);

/// ClickHouse's own numbers of what went wrong.
const UNKNOWN_TABLE: &str = "60";
const UNKNOWN_DATABASE: &str = "81";
const AUTHENTICATION_FAILED: &str = "516";
const ACCESS_DENIED: &str = "497";

pub(super) struct Server {
    agent: ureq::Agent,
    target: Target,
}

/// Why a statement was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer: whether it was done is unknown.
    Away(String),
    /// The schema is not there: the database is new, or somebody dropped it.
    NoSchema(String),
    Refused(String),
}

impl Server {
    pub(super) fn new(target: Target) -> Self {
        let config =
            ureq::Agent::config_builder().timeout_connect(Some(CONNECT)).http_status_as_error(false).build();
        Server { agent: config.into(), target }
    }

    pub(super) fn database(&self) -> &str {
        &self.target.database
    }

    /// A statement without an answer that matters.
    pub(super) fn run(&self, sql: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
        self.send(&[], sql.as_bytes(), settings, &[], UNANSWERED).map(drop)
    }

    /// A statement that rewrites what stands on disk, and is over when the answer comes.
    pub(super) fn rewrite(&self, sql: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
        let synchronous = [("mutations_sync", "2"), ("lightweight_deletes_sync", "2")];
        let settings: Vec<_> = synchronous.iter().chain(settings).copied().collect();
        self.send(&[], sql.as_bytes(), &settings, &[], LONG).map(drop)
    }

    /// By the server's clock, in milliseconds since 1970.
    pub(super) fn now(&self) -> Result<i64, Failure> {
        let rows: Vec<(i64,)> = self.ask(&plain("SELECT toUnixTimestamp64Milli(now64(3))"), &[])?;
        rows.first().map(|(now,)| *now).ok_or_else(|| Failure::Refused("it does not know the time".into()))
    }

    /// Outside any database, which may not be there yet.
    pub(super) fn run_without_database(&self, sql: &str) -> Result<(), Failure> {
        self.send(&[], sql.as_bytes(), &[("database", "")], &[], UNANSWERED).map(drop)
    }

    /// Rows in RowBinary, as one block: they stand in the table all or not at all, and once for each token; without one,
    /// as often as they are sent.
    pub(super) fn insert(&self, into: &str, rows: &[u8], token: Option<&str>) -> Result<(), Failure> {
        let sql = format!("INSERT INTO {into} FORMAT RowBinary");
        let mut settings = vec![
            ("async_insert", "0"),
            ("deduplicate_blocks_in_dependent_materialized_views", "1"),
            // One block: no cut by size, which would give one token to several.
            ("min_insert_block_size_bytes", "0"),
        ];
        match token {
            Some(token) => {
                settings.extend([("insert_deduplicate", "1"), ("insert_deduplication_token", token)]);
            }
            None => settings.push(("insert_deduplicate", "0")),
        }
        self.send(&[("query", &sql)], rows, &settings, &[], UNANSWERED).map(drop)
    }

    /// The rows of an answer, each a tuple in the order of its columns.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        settings: &[(&str, &str)],
    ) -> Result<Vec<T>, Failure> {
        let sql = format!("{} FORMAT JSONCompactEachRow", with_parameters(statement));
        let body = self.send(&[], sql.as_bytes(), settings, &statement.values, UNANSWERED)?;
        let line = |line: &str| {
            serde_json::from_str(line)
                .map_err(|error| Failure::Refused(format!("cannot be read: {error}: {line}")))
        };
        body.lines().map(line).collect()
    }

    fn send(
        &self,
        query: &[(&str, &str)],
        body: &[u8],
        settings: &[(&str, &str)],
        values: &[Value],
        patience: Duration,
    ) -> Result<String, Failure> {
        let mut request = self
            .agent
            .post(&self.target.url)
            .config()
            .timeout_global(Some(patience))
            .build()
            .header("X-ClickHouse-User", &self.target.user)
            .header("X-ClickHouse-Key", &self.target.password)
            .query("wait_end_of_query", "1")
            .query("output_format_json_quote_64bit_integers", "0");
        if !settings.iter().any(|(name, _)| *name == "database") {
            request = request.query("database", &self.target.database);
        }
        for (name, value) in query.iter().chain(settings.iter().filter(|(_, value)| !value.is_empty())) {
            request = request.query(*name, *value);
        }
        for (index, value) in values.iter().enumerate() {
            request = request.query(format!("param_p{index}"), parameter(value));
        }
        let away = |error: ureq::Error| Failure::Away(format!("{}: {error}", self.target.url));
        let mut response = request.send(body).map_err(away)?;
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(away)?;
        if response.status().is_success() {
            return Ok(text);
        }
        let code = response.headers().get("X-ClickHouse-Exception-Code").and_then(|code| code.to_str().ok());
        Err(self.refusal(code.unwrap_or_default(), &text))
    }

    fn refusal(&self, code: &str, text: &str) -> Failure {
        let first = text.lines().next().unwrap_or_default();
        let told = first.chars().take(500).collect::<String>();
        match code {
            UNKNOWN_TABLE | UNKNOWN_DATABASE => Failure::NoSchema(told),
            AUTHENTICATION_FAILED | ACCESS_DENIED => Failure::Refused(format!(
                "user `{}` may not: set user and password of [statistics], or grant it ALL on `{}`: {told}",
                self.target.user, self.target.database
            )),
            _ => Failure::Refused(told),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(text) => Error::Store(format!("ClickHouse does not answer: {text}")),
            Failure::NoSchema(text) | Failure::Refused(text) => Error::Store(format!("ClickHouse: {text}")),
        }
    }
}

/// `?` becomes a parameter of the type of its value. No statement has a `?` in a text of its own.
fn with_parameters(statement: &Statement) -> String {
    let mut sql = String::with_capacity(statement.sql.len() + 16 * statement.values.len());
    for (index, part) in statement.sql.split('?').enumerate() {
        if index > 0 {
            let kind = match statement.values.get(index - 1) {
                Some(Value::Integer(_)) => "Int64",
                Some(Value::Text(_)) | None => "String",
            };
            sql.push_str(&format!("{{p{}:{kind}}}", index - 1));
        }
        sql.push_str(part);
    }
    sql
}

/// A parameter's value is read with the escapes of tab-separated text.
fn parameter(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => {
            text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\0', "\\0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_typed_parameters() {
        let statement = Statement {
            sql: "SELECT 1 WHERE a = ? AND b < ?".into(),
            values: vec![Value::Text("x\\\t'".into()), Value::Integer(7)],
        };
        assert_eq!(with_parameters(&statement), "SELECT 1 WHERE a = {p0:String} AND b < {p1:Int64}");
        assert_eq!(parameter(&statement.values[0]), "x\\\\\\t'");
    }
}
