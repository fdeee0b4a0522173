//! Parameters of a query, each read by name; one that no route knows is refused, not passed over.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use schemas::{MessageId, Timestamp};

use crate::Error;
use crate::settings_file::did_you_mean;

use super::MAX_LIMIT;

/// What is left to be read.
pub struct Params {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub offset: usize,
    pub limit: usize,
}

impl Params {
    #[must_use]
    pub fn new(given: BTreeMap<String, String>) -> Self {
        Params { given, known: Vec::new() }
    }

    /// A parameter as it is; an empty one counts as absent.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.given.remove(name).filter(|text| !text.is_empty())
    }

    /// A parameter of a type that is written as text.
    ///
    /// # Errors
    /// `Invalid`, with `fix`.
    pub fn parse<T: std::str::FromStr>(&mut self, name: &'static str, fix: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::invalid(format!("{name}: `{text}` is not valid"), fix))
    }

    /// # Errors
    /// `Invalid` when it is no message id.
    pub fn message_id(&mut self, name: &'static str) -> Result<Option<MessageId>, Error> {
        self.text(name).as_deref().map(message_id).transpose()
    }

    /// A point in time: `10m` is ten minutes before `now`, else RFC 3339.
    ///
    /// # Errors
    /// `Invalid` when it is neither.
    pub fn time(&mut self, name: &'static str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        if let Ok(ago) = humantime::parse_duration(&text) {
            return Ok(Some(now.minus(ago)));
        }
        let since_epoch =
            humantime::parse_rfc3339_weak(&text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let at = since_epoch.map(|duration| Timestamp(0).plus(duration));
        at.map(Some).ok_or_else(|| {
            Error::invalid(
                format!("{name}: `{text}` is no time"),
                "write how long ago, as 10m, 2h or 7d, or a time in UTC, as 2026-11-24T09:30:00Z",
            )
        })
    }

    /// `limit` and `offset`.
    ///
    /// # Errors
    /// `Invalid` when one is no number, or the limit is over its maximum.
    pub fn page(&mut self, default_limit: usize) -> Result<Page, Error> {
        let fix = format!(
            "write a whole number; at most {MAX_LIMIT} rows come at once, take the next ones with offset"
        );
        let limit = self.parse("limit", &fix)?.unwrap_or(default_limit);
        if limit > MAX_LIMIT {
            return Err(Error::invalid(format!("limit: `{limit}` is more than {MAX_LIMIT}"), fix));
        }
        Ok(Page { limit, offset: self.parse("offset", &fix)?.unwrap_or(0) })
    }

    /// To be called last.
    ///
    /// # Errors
    /// `Invalid` when a parameter was given that nothing read.
    pub fn finish(self) -> Result<(), Error> {
        let Some(name) = self.given.keys().next() else { return Ok(()) };
        let fix = did_you_mean(name, self.known.iter().copied(), || {
            format!("known here are {}", self.known.join(", "))
        });
        Err(Error::invalid(format!("there is no parameter `{name}` here"), fix))
    }
}

impl Page {
    pub fn of<'a, T: Clone + 'a>(self, all: impl Iterator<Item = &'a T>) -> Vec<T> {
        all.skip(self.offset).take(self.limit).cloned().collect()
    }
}

/// # Errors
/// `Invalid` when it is no message id.
pub fn message_id(text: &str) -> Result<MessageId, Error> {
    text.parse().map_err(|_| {
        Error::invalid(
            format!("`{text}` is no message id"),
            "give the 26 letters and digits behind `queued as` or `ref` in the client's log",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(given: &[(&str, &str)]) -> Params {
        Params::new(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn times_are_ago_or_absolute() {
        let now = Timestamp(1_795_512_600_000);
        let mut params = params(&[
            ("a", "10m"),
            ("b", "2026-11-24T09:30:00Z"),
            ("c", "2026-11-24 09:30:00"),
            ("d", "soon"),
        ]);
        assert_eq!(params.time("a", now).unwrap(), Some(Timestamp(1_795_512_000_000)));
        assert_eq!(params.time("b", now).unwrap(), Some(now));
        assert_eq!(params.time("c", now).unwrap(), Some(now));
        assert!(params.time("d", now).is_err());
        assert_eq!(params.time("e", now).unwrap(), None);
        params.finish().unwrap();
    }

    #[test]
    fn what_nobody_reads_is_refused() {
        let mut params = params(&[("usr", "x")]);
        params.text("user");
        let error = params.finish().unwrap_err();
        assert!(error.fix().contains("did you mean `user`"), "{}", error.fix());
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(params(&[("offset", "5")]).page(100).unwrap(), Page { offset: 5, limit: 100 });
        assert!(params(&[("limit", "1001")]).page(100).is_err());
        assert!(params(&[("limit", "-1")]).page(100).is_err());
    }
}
