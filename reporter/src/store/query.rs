//! Questions to the store, and their answers.

use schemas::verdict::Classification;
use schemas::{Domain, Mailbox, Timestamp};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::rows::Standing;

/// Lines of the message log that one question may ask for.
pub const MAX_LINES: u32 = 100_000;

/// Which lines of the message log; all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// Our id, the client's queue id, or a Message-ID.
    pub id: Option<String>,
    pub user: Option<String>,
    pub domain: Option<String>,
    pub identity: Option<String>,
    /// A whole forward-path, or `@domain`.
    pub recipient: Option<String>,
    /// A whole reverse-path, or `<>`.
    pub reverse_path: Option<String>,
    pub classification: Option<String>,
    pub outcome: Option<String>,
    /// Accepted at or after, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Accepted before.
    pub until: Option<i64>,
    /// Lines at most; 100 by default.
    pub limit: Option<u32>,
    /// Also mail of Mailweir itself.
    pub own: bool,
}

impl LogFilter {
    /// The filter as the store knows the values: domains and users in lower case, paths without angle brackets.
    ///
    /// # Errors
    /// `Query`: which value cannot be meant, and what to give instead.
    pub fn checked(mut self) -> Result<Self, Error> {
        let outcome = self.outcome.as_deref();
        if let Some(outcome) = outcome.filter(|outcome| Standing::parse(outcome).is_none()) {
            return Err(Error::Query(format!(
                "outcome: `{outcome}` is none of quarantined, queued, delivered, failed, removed"
            )));
        }
        if let Some(code) = self.classification.as_deref().filter(|code| !is_classification(code)) {
            return Err(Error::Query(format!(
                "classification: `{code}` is no classification code; codes are words as clean, spam, virus, locked_sender"
            )));
        }
        if let Some(limit) = self.limit.filter(|limit| *limit > MAX_LINES) {
            return Err(Error::Query(format!(
                "limit: {limit} is over {MAX_LINES}: ask for shorter times with since and until"
            )));
        }
        in_order(self.since, self.until)?;
        self.domain = self.domain.map(|text| domain("domain", &text)).transpose()?;
        self.user = self.user.map(|user| user.to_lowercase());
        self.recipient = self.recipient.map(|text| recipient(&text)).transpose()?;
        self.reverse_path = self.reverse_path.map(|text| reverse_path(&text)).transpose()?;
        Ok(self)
    }
}

impl StatsFilter {
    /// The filter as the store knows the values.
    ///
    /// # Errors
    /// `Query`: which value cannot be meant, and what to give instead.
    pub fn checked(mut self) -> Result<Self, Error> {
        in_order(self.since, self.until)?;
        self.domain = self.domain.map(|text| domain("domain", &text)).transpose()?;
        self.user = self.user.map(|user| user.to_lowercase());
        Ok(self)
    }
}

fn in_order(since: Option<i64>, until: Option<i64>) -> Result<(), Error> {
    match (since, until) {
        (Some(since), Some(until)) if since >= until => Err(Error::Query(format!(
            "since, until: {since} is not before {until}; both are milliseconds since 1970"
        ))),
        _ => Ok(()),
    }
}

fn is_classification(code: &str) -> bool {
    let text: StrDeserializer<'_, ValueError> = code.into_deserializer();
    Classification::deserialize(text).is_ok_and(|classification| classification.code() == code)
}

fn domain(key: &str, text: &str) -> Result<String, Error> {
    Domain::parse(text)
        .map(|domain| domain.to_string())
        .map_err(|error| Error::Query(format!("{key}: `{text}`: {error}")))
}

fn mailbox(key: &str, text: &str) -> Result<String, Error> {
    let bare = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
    Mailbox::parse(bare)
        .map(|mailbox| mailbox.to_string())
        .map_err(|error| Error::Query(format!("{key}: `{text}`: {error}")))
}

fn recipient(text: &str) -> Result<String, Error> {
    match text.strip_prefix('@') {
        Some(of) => domain("recipient", of).map(|domain| format!("@{domain}")),
        None => mailbox("recipient", text),
    }
}

fn reverse_path(text: &str) -> Result<String, Error> {
    if matches!(text, "<>" | "") { Ok("<>".to_owned()) } else { mailbox("reverse_path", text) }
}

/// One recipient's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    pub message_id: String,
    pub recipient: u32,
    pub accepted_at: Timestamp,
    pub at: Timestamp,
    pub user: String,
    pub domain: String,
    pub identity: String,
    pub reverse_path: String,
    pub forward_path: String,
    pub classification: String,
    pub outcome: String,
    pub size_bytes: u64,
    pub tries: u32,
    pub header_message_id: Option<String>,
    pub client_queue_id: Option<String>,
    pub subject: Option<String>,
    pub reply: Option<String>,
    pub remote: Option<String>,
    pub egress: Option<String>,
    pub own: bool,
}

/// Which hours and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StatsFilter {
    pub domain: Option<String>,
    pub user: Option<String>,
    pub identity: Option<String>,
    /// Hours that begin at or after, in milliseconds since 1970.
    pub since: Option<i64>,
    pub until: Option<i64>,
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    #[default]
    Domain,
    User,
    Identity,
    FromDomain,
    Destination,
    Classification,
    Hour,
}

impl Group {
    /// The column of `hourly`.
    #[must_use]
    pub fn column(self) -> &'static str {
        match self {
            Group::Domain => "domain",
            Group::User => "user",
            Group::Identity => "identity",
            Group::FromDomain => "from_domain",
            Group::Destination => "destination",
            Group::Classification => "classification",
            Group::Hour => "hour",
        }
    }
}

/// Sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsLine {
    /// The domain, user ...; an hour as RFC 3339.
    pub group: String,
    pub messages: u64,
    pub recipients: u64,
    pub bytes: u64,
    pub quarantined: u64,
    pub delivered: u64,
    pub failed: u64,
    pub removed: u64,
    pub deferrals: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_brought_into_the_form_of_the_store() {
        let text = |t: &str| Some(t.to_owned());
        let filter = LogFilter {
            domain: text("Customer.EXAMPLE."),
            user: text("Shop@Customer.example"),
            recipient: text("<A.b@One.example>"),
            reverse_path: text(""),
            classification: text("forwarded_spam"),
            outcome: text("failed"),
            ..LogFilter::default()
        };
        let checked = filter.checked().unwrap();
        assert_eq!(checked.domain, text("customer.example"));
        assert_eq!(checked.user, text("shop@customer.example"));
        assert_eq!(checked.recipient, text("A.b@one.example"));
        assert_eq!(checked.reverse_path, text("<>"));
        let of_domain = LogFilter { recipient: text("@One.example"), ..LogFilter::default() };
        assert_eq!(of_domain.checked().unwrap().recipient, text("@one.example"));
    }

    #[test]
    fn what_cannot_be_meant_is_told_by_its_key() {
        let text = |t: &str| Some(t.to_owned());
        let none = LogFilter::default;
        for (filter, key) in [
            (LogFilter { outcome: text("lost"), ..none() }, "outcome"),
            (LogFilter { classification: text("SPAM"), ..none() }, "classification"),
            (LogFilter { limit: Some(MAX_LINES + 1), ..none() }, "limit"),
            (LogFilter { since: Some(2), until: Some(2), ..none() }, "since"),
            (LogFilter { domain: text("a b"), ..none() }, "domain"),
            (LogFilter { recipient: text("one.example"), ..none() }, "recipient"),
            (LogFilter { reverse_path: text("<a@>"), ..none() }, "reverse_path"),
        ] {
            let error = filter.checked().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
