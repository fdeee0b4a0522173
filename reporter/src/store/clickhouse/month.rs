//! What concerns a month as a whole: its sums and its message log made again from `outcomes`, and addresses erased.

use std::str::FromStr;

use super::fold::ERASED;
use super::pause::Pause;
use super::plain;
use super::read;
use super::server::{Failure, Server};
use crate::Error;
use crate::store::sql::{Statement, Value};

/// Tables made of `outcomes`, each by the view named after it.
const MADE: [&str; 4] = ["recipients", "hourly", "latency_hourly", "events"];

/// How often a month is made again when somebody writes into it all the same.
const TRIES: usize = 5;

/// A month of the calendar, in UTC, as 202611.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month(pub(super) u32);

impl FromStr for Month {
    type Err = Error;

    /// Reads `2026-11`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.split_once('-').and_then(|(year, month)| {
            let digits = year.len() == 4 && month.len() == 2;
            digits.then(|| Some((year.parse::<u32>().ok()?, month.parse::<u32>().ok()?))).flatten()
        });
        match parts {
            Some((year, month)) if (1..=12).contains(&month) => Ok(Month(year * 100 + month)),
            _ => Err(Error::Query(format!("`{text}` is no month: write it as 2026-11"))),
        }
    }
}

/// Makes everything of one month again from `outcomes`. Each table changes at once; readers see the old or the new one.
pub(super) fn rebuild(server: &Server, month: Month) -> Result<(), Failure> {
    let pause = Pause::begin(server)?;
    make_again(server, &pause, month)
}

fn make_again(server: &Server, pause: &Pause<'_>, month: Month) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let (began, before) = (server.now()?, contents(server, month)?);
        for table in MADE {
            pause.go_on()?;
            replace(server, table, month)?;
        }
        // An insert that came in between is missing where it came after the reading.
        if contents(server, month)? == before {
            let sql = format!(
                "INSERT INTO rebuilds (month, began) SELECT {}, fromUnixTimestamp64Milli({began}, 'UTC')",
                month.0
            );
            return server.run(&sql, &[]);
        }
    }
    Err(Failure::Refused(format!(
        "month {} grows while it is made again, what is made of it is not whole: try again",
        month.0
    )))
}

fn replace(server: &Server, table: &str, month: Month) -> Result<(), Failure> {
    let database = server.database();
    let scratch = format!("rebuild_{table}");
    server.run(&format!("DROP TABLE IF EXISTS {scratch} SYNC"), &[])?;
    server.run(&format!("CREATE TABLE {scratch} AS {table}"), &[])?;
    let select = plain(format!(
        "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = '{table}_view'"
    ));
    let select: Vec<(String,)> = server.ask(&select, &[])?;
    let Some((select,)) = select.into_iter().next() else {
        return Err(Failure::NoSchema(format!("view {table}_view is not there")));
    };
    let only =
        format!("{{'{database}.outcomes': '{}'}}", in_month("accepted_at", month).replace('\'', "\\'"));
    let settings = [("final", "1"), ("additional_table_filters", only.as_str())];
    server.rewrite(&format!("INSERT INTO {scratch} {select}"), &settings)?;
    let partition = month.0;
    if read::count(server, &scratch, "1", &[])? == 0 {
        server.rewrite(&format!("ALTER TABLE {table} DROP PARTITION {partition}"), &[])?;
    } else {
        server.rewrite(&format!("ALTER TABLE {table} REPLACE PARTITION {partition} FROM {scratch}"), &[])?;
    }
    server.run(&format!("DROP TABLE {scratch} SYNC"), &[])
}

fn in_month(column: &str, month: Month) -> String {
    format!("toYYYYMM(fromUnixTimestamp64Milli({column}, 'UTC')) = {}", month.0)
}

/// What tells whether the table has changed.
fn contents(server: &Server, month: Month) -> Result<Vec<(u64, i64)>, Failure> {
    let sql = format!(
        "SELECT count(), toUnixTimestamp64Milli(max(inserted_at)) FROM outcomes WHERE {}",
        in_month("accepted_at", month)
    );
    server.ask(&plain(sql), &[])
}

const ADDRESS_COLUMNS: [&str; 3] = ["forward_path", "reverse_path", "identity"];

/// The months that have the address are told by every table that has it: a call that was interrupted is finished by the
/// next one.
pub(super) fn erase(server: &Server, address: &str) -> Result<usize, Failure> {
    let address = address.to_ascii_lowercase();
    let values = |count: usize| vec![Value::Text(address.clone()); count];
    let any = ADDRESS_COLUMNS.map(|column| format!("lower({column}) = ?")).join(" OR ");
    let rows = Statement { sql: format!("SELECT count() FROM recipients WHERE {any}"), values: values(3) };
    let rows: Vec<(usize,)> = server.ask(&rows, read::AS_IT_STANDS)?;
    let mut months = Vec::new();
    for (table, age, condition, count) in [
        ("outcomes", "accepted_at", any.as_str(), 3),
        ("recipients", "accepted_at", any.as_str(), 3),
        ("hourly", "hour", "lower(identity) = ?", 1),
    ] {
        let month = format!("toYYYYMM(fromUnixTimestamp64Milli({age}, 'UTC'))");
        let sql = format!("SELECT DISTINCT {month} FROM {table} WHERE {condition}");
        let found: Vec<(u32,)> = server.ask(&Statement { sql, values: values(count) }, &[])?;
        months.extend(found.into_iter().map(|(month,)| month));
    }
    months.sort_unstable();
    months.dedup();
    if months.is_empty() {
        return Ok(0);
    }
    let quoted = address.replace('\\', "\\\\").replace('\'', "\\'");
    let is = |column: &str| format!("lower({column}) = '{quoted}'");
    let set = ADDRESS_COLUMNS.map(|column| format!("{column} = if({}, '{ERASED}', {column})", is(column)));
    // Replies of servers like to repeat the address.
    let sql = format!(
        "ALTER TABLE outcomes UPDATE {}, subject = '', reply = '' WHERE {}",
        set.join(", "),
        ADDRESS_COLUMNS.map(is).join(" OR ")
    );
    let pause = Pause::begin(server)?;
    server.rewrite(&sql, &[])?;
    for month in months {
        make_again(server, &pause, Month(month))?;
    }
    Ok(rows.first().map_or(0, |(count,)| *count))
}
