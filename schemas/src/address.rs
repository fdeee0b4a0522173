//! Domains, mailboxes and paths that cannot hold a bad value.

use serde::{Deserialize, Serialize};

/// Why a text is no domain or mailbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the domain is missing: expected local-part@domain")]
    NoDomain,
    #[error("the local-part is empty or longer than 64 octets")]
    LocalPart,
    #[error("the domain is empty, longer than 255 octets or has a label that DNS does not allow")]
    Domain,
    #[error("a character is not allowed in an address without quotes: {0:?}")]
    Character(char),
}

/// A domain name in lower case and A-labels (`xn--...`), or an address literal (`[192.0.2.1]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    /// # Errors
    /// `AddressError::Domain` when `text` is neither a host name (letters, digits, hyphen, underscore; RFC 5321
    /// 4.1.2) nor an internationalised one nor an address literal (RFC 5321 4.1.3).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let ip = literal.strip_prefix("IPv6:").unwrap_or(literal);
            return match ip.parse::<std::net::IpAddr>() {
                Ok(_) => Ok(Domain(text.to_ascii_lowercase().replace("[ipv6:", "[IPv6:"))),
                Err(_) => Err(AddressError::Domain),
            };
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?
        };
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if ascii.len() > 255 || !ascii.split('.').all(label_ok) {
            return Err(AddressError::Domain);
        }
        Ok(Domain(ascii))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of an address literal.
    #[must_use]
    pub fn literal_ip(&self) -> Option<std::net::IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        inner.strip_prefix("IPv6:").unwrap_or(inner).parse().ok()
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Domain::parse(text)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Domain::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A mailbox, `local-part@domain`; the local-part as it was given (quoted where it was quoted), the domain normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local: String,
    domain: Domain,
}

impl Mailbox {
    /// # Errors
    /// Which rule of RFC 5321 4.1.2 (with RFC 6531 for UTF-8) the text breaks.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        if local.is_empty() || local.len() > 64 {
            return Err(AddressError::LocalPart);
        }
        check_local_part(local)?;
        Ok(Mailbox { local: local.into(), domain: Domain::parse(domain)? })
    }

    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local
    }

    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// `true` when the local-part needs SMTPUTF8 (RFC 6531) to be sent.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

fn check_local_part(local: &str) -> Result<(), AddressError> {
    let bad_control = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}');
    if let Some(inner) = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
        let mut escaped = false;
        for c in inner.chars() {
            if bad_control(c) || (c == '"' && !escaped) {
                return Err(AddressError::Character(c));
            }
            escaped = c == '\\' && !escaped;
        }
        return if escaped { Err(AddressError::LocalPart) } else { Ok(()) };
    }
    if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return Err(AddressError::LocalPart);
    }
    match local.chars().find(|c| {
        bad_control(*c)
            || c.is_whitespace()
            || matches!(c, '"' | '(' | ')' | ',' | ':' | ';' | '<' | '>' | '@' | '[' | ']' | '\\')
    }) {
        Some(c) => Err(AddressError::Character(c)),
        None => Ok(()),
    }
}

impl std::fmt::Display for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl std::str::FromStr for Mailbox {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Mailbox::parse(text)
    }
}

impl Serialize for Mailbox {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mailbox {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Mailbox::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The argument of MAIL FROM: a mailbox or the null reverse-path `<>`. In JSON the address, or `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    Null,
    Mailbox(Mailbox),
}

impl ReversePath {
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        }
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, ReversePath::Null)
    }
}

impl std::fmt::Display for ReversePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl Serialize for ReversePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReversePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(ReversePath::Null);
        }
        Mailbox::parse(&text).map(ReversePath::Mailbox).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes() {
        for good in [
            "a@b.example",
            "\"a b\"@b.example",
            "u+tag@x",
            "a@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
            "ü@exämple.de",
        ] {
            Mailbox::parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a..b@c",
            ".a@c",
            "a@b..c",
            "a@-b",
            "a\r@b",
            "\"a\"b\"@c",
            "a@[999.1.1.1]",
            "a\u{0}@b",
            "a<b@c",
        ] {
            assert!(Mailbox::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(Mailbox::parse("A.b@EXAMPLE.com.").unwrap().to_string(), "A.b@example.com");
        assert_eq!(Mailbox::parse("a@bücher.example").unwrap().domain().as_str(), "xn--bcher-kva.example");
    }

    #[test]
    fn a_null_reverse_path_is_the_empty_string() {
        assert_eq!(serde_json::to_string(&ReversePath::Null).unwrap(), "\"\"");
        assert_eq!(serde_json::from_str::<ReversePath>("\"\"").unwrap(), ReversePath::Null);
    }
}
