//! What is to be done about an insert whose rows the table has already. A crash may have come before the views had them,
//! and only the server's deduplication windows know.

use super::month::Month;
use super::plain;
use super::server::{Failure, Server, UNANSWERED};

/// What was inserted longer ago may have left the windows: 10,000 blocks, at most some ten a second.
const WINDOW_MS: i64 = 600_000;
/// An insert is over, one way or the other, so long after its rows say that they were inserted.
const UNDER_WAY_MS: i64 = 2 * UNANSWERED.as_millis() as i64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The windows know it: whoever has it passes over it.
    Insert,
    /// All of it stands everywhere.
    Nothing,
    /// Nobody knows who has it: what is made of the table is made again.
    Rebuild,
}

/// When the month was made again last, in milliseconds since 1970.
#[derive(Clone, Copy)]
struct Rebuild {
    began: i64,
    ended: i64,
}

/// `inserted`: when the rows say they were, by the server's clock, in milliseconds since 1970.
pub(super) fn ask(server: &Server, month: Month, inserted: i64) -> Result<Again, Failure> {
    let sql = format!(
        "SELECT toUnixTimestamp64Milli(began), toUnixTimestamp64Milli(ended) FROM rebuilds WHERE month = {} \
         ORDER BY ended DESC LIMIT 1",
        month.0
    );
    let rebuilds: Vec<(i64, i64)> = server.ask(&plain(sql), &[])?;
    let rebuild = rebuilds.first().map(|(began, ended)| Rebuild { began: *began, ended: *ended });
    Ok(decide(inserted, server.now()?, rebuild))
}

fn decide(inserted: i64, now: i64, rebuild: Option<Rebuild>) -> Again {
    match rebuild {
        Some(rebuild) if inserted.saturating_add(UNDER_WAY_MS) < rebuild.began => Again::Nothing,
        // Replacing a table's month makes its window forget what was there.
        Some(rebuild) if inserted <= rebuild.ended => Again::Rebuild,
        _ if now.saturating_sub(inserted) > WINDOW_MS => Again::Rebuild,
        _ => Again::Insert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_are_trusted_while_they_know() {
        let (inserted, second) = (1_000_000_000, 1000);
        let rebuilt = |began: i64| {
            Some(Rebuild { began: inserted + began * second, ended: inserted + (began + 5) * second })
        };
        for (age, rebuild, expected) in [
            (1, None, Again::Insert),
            (599, None, Again::Insert),
            (601, None, Again::Rebuild),
            (601, rebuilt(300), Again::Nothing),
            (10, rebuilt(2), Again::Rebuild),
            (10, rebuilt(-2), Again::Rebuild),
            (10, rebuilt(-9), Again::Insert),
            (900, rebuilt(-9), Again::Rebuild),
        ] {
            let began = rebuild.map(|rebuild| rebuild.began - inserted);
            assert_eq!(decide(inserted, inserted + age * second, rebuild), expected, "{age} {began:?}");
        }
    }
}
