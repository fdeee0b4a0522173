//! Where the server is and who asks.

use percent_encoding::percent_decode_str;
use url::Url;

/// The database when the URL names none.
const DATABASE: &str = "mailweir";
/// The port of ClickHouse's HTTP interface.
const PORT: u16 = 8123;

#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// `http://host:port/`.
    pub url: String,
    pub database: String,
    pub user: String,
    pub password: String,
}

/// Never the password.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{} as {}", self.url, self.database, self.user)
    }
}

/// Why a URL cannot be used; says what to write.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("it is no URL")]
    NoUrl,
    #[error(
        "ClickHouse is reached over plain HTTP only: put a TLS tunnel in front of a server that is far away"
    )]
    Scheme,
    #[error("`{0}` is no database name of letters, digits and `_`")]
    Database(String),
}

impl Target {
    /// Reads `http://user:password@host:port/database`; all but the host may be missing.
    ///
    /// # Errors
    /// What of it cannot be meant.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        let url = Url::parse(text).map_err(|_| InvalidTarget::NoUrl)?;
        if url.scheme() != "http" {
            return Err(InvalidTarget::Scheme);
        }
        let host = url.host_str().ok_or(InvalidTarget::NoUrl)?;
        let database = match url.path().trim_matches('/') {
            "" => DATABASE,
            database => database,
        };
        let is_name = database.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || database.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(InvalidTarget::Database(database.into()));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        // The port of the scheme is left out by the parser; nobody serves ClickHouse on 80 without saying so.
        let port = if text.contains(&format!("{host}:80")) { 80 } else { PORT };
        Ok(Target {
            url: format!("http://{host}:{}/", url.port().unwrap_or(port)),
            database: database.into(),
            user: if url.username().is_empty() { "default".into() } else { decoded(url.username()) },
            password: decoded(url.password().unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_host_may_be_missing() {
        let target = Target::parse("http://clickhouse").unwrap();
        let expected = Target {
            url: "http://clickhouse:8123/".into(),
            database: "mailweir".into(),
            user: "default".into(),
            password: String::new(),
        };
        assert_eq!(target, expected);
        let target = Target::parse("http://me:a%40b@[2001:db8::1]:80/stats").unwrap();
        assert_eq!((target.url.as_str(), target.database.as_str()), ("http://[2001:db8::1]:80/", "stats"));
        assert_eq!((target.user.as_str(), target.password.as_str()), ("me", "a@b"));
        assert!(!format!("{target:?}").contains("a@b"));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        assert_eq!(Target::parse("clickhouse:8123"), Err(InvalidTarget::Scheme));
        assert_eq!(Target::parse("https://clickhouse/"), Err(InvalidTarget::Scheme));
        assert_eq!(Target::parse("clickhouse"), Err(InvalidTarget::NoUrl));
        assert_eq!(Target::parse("http://h/a-b"), Err(InvalidTarget::Database("a-b".into())));
    }
}
