//! `[statistics]`: where they are kept, and for how long.

use std::path::Path;
use std::time::Duration;

use reporter::store::clickhouse::Target;

use super::{Problem, raw};

/// ClickHouse's dates end in 2106; nobody plans that far.
const LONGEST: Duration = Duration::from_secs(20 * 365 * 86_400);

pub(super) fn clickhouse(
    statistics: &raw::Statistics,
    keep: Duration,
) -> Result<Option<Target>, Vec<Problem>> {
    let Some(url) = statistics.clickhouse.as_deref() else {
        return without_clickhouse(statistics).map(|()| None);
    };
    let mut problems = Vec::new();
    if statistics.database.is_some() {
        problems.push(Problem::new(
            "statistics.database",
            "names a SQLite file, but statistics go to ClickHouse",
            "remove it or statistics.clickhouse",
        ));
    }
    if keep > LONGEST {
        problems.push(Problem::new("statistics.keep", "is over 20 years", "keep rows for at most \"20y\""));
    }
    let password = statistics.password_file.as_deref().map(password).transpose();
    let password = password.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    match Target::parse(url) {
        Ok(mut target) if problems.is_empty() => {
            target.user = statistics.user.clone().unwrap_or(target.user);
            target.password = password.unwrap_or(target.password);
            return Ok(Some(target));
        }
        Ok(_) => {}
        // Not the URL itself: it may have a password.
        Err(error) => problems.push(Problem::new(
            "statistics.clickhouse",
            error.to_string(),
            "write it as \"http://clickhouse:8123/mailweir\"",
        )),
    }
    Err(problems)
}

fn without_clickhouse(statistics: &raw::Statistics) -> Result<(), Vec<Problem>> {
    let keys = [
        ("statistics.user", statistics.user.is_some()),
        ("statistics.password_file", statistics.password_file.is_some()),
    ];
    let problem =
        |(key, _)| Problem::new(key, "is for ClickHouse only", "set statistics.clickhouse or remove it");
    let problems: Vec<_> = keys.into_iter().filter(|(_, is_set)| *is_set).map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// One line; its end is not part of it.
fn password(file: &Path) -> Result<String, Problem> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(Problem::new(
            "statistics.password_file",
            format!("{} cannot be read: {error}", file.display()),
            "give the path of a file that mailweir may read, with the password on one line",
        )),
    }
}
