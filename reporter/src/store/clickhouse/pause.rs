//! While a month is made again nobody else may write into it, whatever process he is in: what came between reading the
//! table and replacing what is made of it would be missing there. Who makes it again says so in the database, and whoever
//! wants to write looks first.

use std::time::{Duration, Instant};

use super::plain;
use super::server::{Failure, Server};

/// A pause whose owner died is over after this; longer than what one month takes, and announced anew for each table.
const LASTS_SECS: u32 = 600;
/// What was under way when the pause was announced is waited for, up to this.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// A writer that has looked and not written yet is not seen; it writes within this.
const BEFORE_IT_WRITES: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);

/// Nobody writes while this lives. Over when it is dropped, at the latest when its time is.
pub(super) struct Pause<'a> {
    server: &'a Server,
    by: String,
}

impl<'a> Pause<'a> {
    /// Announces a pause, and waits for what is under way.
    pub(super) fn begin(server: &'a Server) -> Result<Self, Failure> {
        let name: Vec<(String,)> = server.ask(&plain("SELECT toString(generateUUIDv4())"), &[])?;
        let (name,) = name.into_iter().next().ok_or_else(|| Failure::Refused("it gives no name".into()))?;
        let pause = Pause { server, by: format!("process-{}-{name}", std::process::id()) };
        pause.lasts(LASTS_SECS)?;
        // Of two that begin at once one gives way.
        if let Some(other) = others(server, &pause.by)?.into_iter().find(|other| *other < pause.by) {
            return Err(busy(&other));
        }
        pause.settle()?;
        Ok(pause)
    }

    /// Announces it anew.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        self.lasts(LASTS_SECS)
    }

    fn lasts(&self, secs: u32) -> Result<(), Failure> {
        self.server.run(
            &format!(
                "INSERT INTO pauses (by, until) SELECT '{}', now64(3) + INTERVAL {secs} SECOND",
                self.by
            ),
            &[],
        )
    }

    fn settle(&self) -> Result<(), Failure> {
        std::thread::park_timeout(BEFORE_IT_WRITES);
        let deadline = Instant::now() + SETTLED_WITHIN;
        let inserts = plain(
            "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND current_database = currentDatabase() \
             AND query LIKE '%outcomes%' AND query_id != queryID()",
        );
        while Instant::now() < deadline {
            let under_way: Vec<(u64,)> = self.server.ask(&inserts, &[])?;
            if under_way.first().is_none_or(|(count,)| *count == 0) {
                return Ok(());
            }
            std::thread::park_timeout(LOOK);
        }
        Err(Failure::Refused("an insert does not end: try again".into()))
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.lasts(0) {
            tracing::warn!(
                ?failure,
                "statistics are written again only when the pause of {LASTS_SECS} s is over"
            );
        }
    }
}

/// Whether somebody has everybody else pause.
pub(super) fn none(server: &Server) -> Result<(), Failure> {
    match others(server, "")?.first() {
        None => Ok(()),
        Some(other) => Err(busy(other)),
    }
}

fn others(server: &Server, me: &str) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT by FROM pauses WHERE by != '{me}' GROUP BY by HAVING argMax(until, at) > now64(3) ORDER BY by"
    );
    let rows: Vec<(String,)> = server.ask(&plain(sql), &[])?;
    Ok(rows.into_iter().map(|(by,)| by).collect())
}

fn busy(by: &str) -> Failure {
    Failure::Refused(format!("a month is being made again by {by}: what is to be written waits"))
}
