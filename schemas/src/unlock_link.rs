//! The link in a lock notice: it names one lock, so that it ends that one and no later one, and is good for a day.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sealed::{ClusterKey, SealError};
use crate::verdict::Identity;
use crate::{Domain, Mailbox, Timestamp, UserId};

/// How long after its lock a link can be used.
pub const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
const PURPOSE: &str = "unlock link";

/// What stands in a link, sealed with the cluster key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockLink {
    pub user: UserId,
    pub domain: Domain,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// When the lock was set: which one it is.
    pub since: Timestamp,
    /// Who got the link.
    pub to: Mailbox,
}

impl UnlockLink {
    /// The link as a segment of a path.
    #[must_use]
    pub fn token(&self, key: &ClusterKey) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        key.seal(PURPOSE, &json)
            .chars()
            .filter(|c| *c != '=')
            .map(|c| match c {
                '+' => '-',
                '/' => '_',
                ':' => '.',
                other => other,
            })
            .collect()
    }

    /// # Errors
    /// When the token is not one that this cluster made.
    pub fn from_token(token: &str, key: &ClusterKey) -> Result<Self, SealError> {
        let sealed: Vec<String> = token
            .split('.')
            .map(|part| part.replace('-', "+").replace('_', "/"))
            .enumerate()
            // Base64 is padded to groups of four; the fingerprint in front is not.
            .map(|(index, part)| match part.len() % 4 {
                2 | 3 if index > 0 => format!("{part:=<width$}", width = part.len().next_multiple_of(4)),
                _ => part,
            })
            .collect();
        let json = key.open(PURPOSE, &sealed.join(":"))?;
        serde_json::from_slice(&json).map_err(|_| SealError::Damaged)
    }

    #[must_use]
    pub fn is_good_at(&self, now: Timestamp) -> bool {
        now < self.since.plus(GOOD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(identity: &str) -> UnlockLink {
        UnlockLink {
            user: UserId("192.0.2.0/28".into()),
            domain: Domain::parse("server.example").unwrap(),
            identity: Some(Identity(identity.into())),
            since: Timestamp(1_795_512_600_000),
            to: Mailbox::parse("abuse@hoster.example").unwrap(),
        }
    }

    #[test]
    fn a_link_comes_back_and_nobody_makes_one_up() {
        let key = ClusterKey::from_file_content(&ClusterKey::generate()).unwrap();
        for identity in ["", "a", "ab", "abc", "abcd ü"] {
            let token = link(identity).token(&key);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{token}");
            assert_eq!(UnlockLink::from_token(&token, &key).unwrap(), link(identity));
            let mut other = token.into_bytes();
            let last = other.len() - 5;
            other[last] = if other[last] == b'A' { b'B' } else { b'A' };
            assert!(UnlockLink::from_token(std::str::from_utf8(&other).unwrap(), &key).is_err());
        }
        let another = ClusterKey::from_file_content(&ClusterKey::generate()).unwrap();
        assert!(UnlockLink::from_token(&link("a").token(&another), &key).is_err());
        for nonsense in ["", ".", "a.b.c", "::", "ü", &"A".repeat(10_000)] {
            assert!(UnlockLink::from_token(nonsense, &key).is_err());
        }
    }

    #[test]
    fn a_link_is_good_for_a_day() {
        let link = link("a");
        assert!(link.is_good_at(link.since) && !link.is_good_at(link.since.plus(GOOD_FOR)));
    }
}
