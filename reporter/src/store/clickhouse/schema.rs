//! The tables: made and brought from version to version, and how long they keep their rows.

use std::time::Duration;

use super::server::{Failure, Server};
use crate::Error;
use crate::store::sql::Statement;

/// What brings a database from each version to the next. Each statement can be run again when a start was interrupted
/// in the middle; none may drop a column or a table that has rows.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../../schemas/sql/clickhouse.sql"),
    include_str!("../../../../schemas/sql/clickhouse-2.sql"),
];

/// The tables that hold rows of mail, and what tells a row's age, in milliseconds since 1970.
pub(super) const AGED: [(&str, &str); 5] = [
    ("outcomes", "accepted_at"),
    ("recipients", "accepted_at"),
    ("events", "accepted_at"),
    ("hourly", "hour"),
    ("latency_hourly", "hour"),
];

pub(super) fn prepare(server: &Server, keep: Duration) -> Result<(), Error> {
    let database = server.database();
    match version(server) {
        Err(Failure::NoSchema(_)) => {
            server.run_without_database(&format!("CREATE DATABASE IF NOT EXISTS `{database}`"))?;
            server.run(
                "CREATE TABLE IF NOT EXISTS migrations (version UInt32, at DateTime('UTC') DEFAULT now()) \
                 ENGINE = MergeTree ORDER BY version",
                &[],
            )?;
        }
        Err(failure) => return Err(failure.into()),
        Ok(_) => {}
    }
    migrate(server, version(server)?)?;
    keep_for(server, keep)
}

fn version(server: &Server) -> Result<usize, Failure> {
    let newest = Statement { sql: "SELECT max(version) FROM migrations".into(), values: Vec::new() };
    let rows: Vec<(usize,)> = server.ask(&newest, &[])?;
    Ok(rows.first().map_or(0, |(version,)| *version))
}

fn migrate(server: &Server, version: usize) -> Result<(), Error> {
    let known = MIGRATIONS.len();
    if version > known {
        return Err(Error::Query(format!(
            "database `{}` was written by a newer version (schema {version}, this one knows {known}): run that \
             version, or name another database in statistics.clickhouse, which is filled from the log",
            server.database()
        )));
    }
    for (step, text) in MIGRATIONS.iter().enumerate().skip(version) {
        for statement in statements(text) {
            server.run(statement, &[])?;
        }
        server.run(&format!("INSERT INTO migrations (version) VALUES ({})", step + 1), &[])?;
    }
    Ok(())
}

/// A statement ends with a semicolon at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

/// Rows go by whole parts as their time is over; what is left of the oldest month goes with `expire`.
fn keep_for(server: &Server, keep: Duration) -> Result<(), Error> {
    let days = keep.as_secs().div_ceil(86_400).max(1);
    let wanted = format!("toIntervalDay({days})");
    for (table, age) in AGED {
        let engine = Statement {
            sql: format!(
                "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = '{table}'"
            ),
            values: Vec::new(),
        };
        let rows: Vec<(String,)> = server.ask(&engine, &[])?;
        if rows.iter().any(|(engine,)| engine.contains(&wanted)) {
            continue;
        }
        let sql = format!(
            "ALTER TABLE {table} MODIFY TTL toDateTime(intDiv({age}, 1000), 'UTC') + toIntervalDay({days})"
        );
        server.run(&sql, &[("materialize_ttl_after_modify", "0")])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_can_be_run_again() {
        for statement in MIGRATIONS.iter().flat_map(|text| statements(text)) {
            let code: String = statement.lines().filter(|line| !line.starts_with("--")).collect();
            let again =
                ["CREATE TABLE IF NOT EXISTS ", "CREATE MATERIALIZED VIEW IF NOT EXISTS ", "ALTER TABLE "];
            assert!(again.iter().any(|start| code.starts_with(start)), "{code}");
            assert!(!code.contains("DROP"), "{code}");
        }
    }
}
