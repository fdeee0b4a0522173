//! Identifiers and points in time.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, in JSON a plain integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and `duration` later.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This time and `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// `2026-11-24T09:30:00.123Z` (RFC 3339, UTC).
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (y, mo, d) = civil_from_days(self.0.div_euclid(86_400_000));
        let ms = self.0.rem_euclid(86_400_000);
        let (s, milli) = (ms / 1000, ms % 1000);
        format!("{y:04}-{mo:02}-{d:02}T{:02}:{:02}:{:02}.{milli:03}Z", s / 3600, s / 60 % 60, s % 60)
    }

    /// `Tue, 24 Nov 2026 09:30:00 +0000` (RFC 5322, UTC).
    #[must_use]
    pub fn rfc5322(self) -> String {
        const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let days = self.0.div_euclid(86_400_000);
        let (y, mo, d) = civil_from_days(days);
        let s = self.0.rem_euclid(86_400_000) / 1000;
        format!(
            "{}, {d} {} {y:04} {:02}:{:02}:{:02} +0000",
            WEEKDAYS[days.rem_euclid(7) as usize],
            MONTHS[mo as usize - 1],
            s / 3600,
            s / 60 % 60,
            s % 60
        )
    }
}

/// Year, month (1 to 12) and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// Our id of a message: a ULID, 26 characters, sorts by the time it was made. Never the Message-ID of the message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Ulid);

impl MessageId {
    /// A new id for a message that arrives `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        let random = Ulid::new().random();
        MessageId(Ulid::from_parts(u64::try_from(at.0).unwrap_or(0), random))
    }

    /// The id of a message of our own that `event` at `at` gave rise to: the same event always gives the same id.
    #[must_use]
    pub fn derived(event: &str, at: Timestamp) -> Self {
        let digest = Sha256::digest(event.as_bytes());
        let mut random = [0u8; 16];
        random[6..].copy_from_slice(&digest[..10]);
        MessageId(Ulid::from_parts(u64::try_from(at.0).unwrap_or(0), u128::from_be_bytes(random)))
    }

    /// When the id was made, to the millisecond.
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        Timestamp(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no message id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no message id: expected 26 letters and digits, as in `250 2.0.0 queued as <id>`")]
pub struct InvalidMessageId(String);

impl std::str::FromStr for MessageId {
    type Err = InvalidMessageId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(&text.to_ascii_uppercase())
            .map(MessageId)
            .map_err(|_| InvalidMessageId(text.into()))
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0u8; ulid::ULID_LEN];
        serializer.serialize_str(self.0.array_to_str(&mut buffer))
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who authenticated: the CIDR range of an IP user (`192.0.2.0/28`), else the login (`customer.example` or
/// `shop@customer.example`), lower case. The user is what user-partitioned topics are partitioned by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub String);

impl UserId {
    /// The "user" of mail that Mailweir itself sends: DSNs, reports, notices.
    #[must_use]
    pub fn own_mail() -> Self {
        UserId("mailweir".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_the_calendar_says() {
        let at = Timestamp(1_795_512_600_123);
        assert_eq!(at.rfc3339(), "2026-11-24T09:30:00.123Z");
        assert_eq!(at.rfc5322(), "Tue, 24 Nov 2026 09:30:00 +0000");
        assert_eq!(Timestamp(951_782_400_000).rfc3339(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp(-1).rfc3339(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_derived_id_depends_on_the_event_alone() {
        let at = Timestamp(1_795_512_600_123);
        assert_eq!(MessageId::derived("dsn:1", at), MessageId::derived("dsn:1", at));
        assert_ne!(MessageId::derived("dsn:1", at), MessageId::derived("dsn:2", at));
        let id = MessageId::derived("dsn:1", at);
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert_eq!(id.made_at(), at);
    }
}
