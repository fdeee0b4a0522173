//! SMTP replies (RFC 5321 4.2) with their enhanced status code (RFC 3463), and the `replies` topic.

use serde::{Deserialize, Serialize};

use crate::MessageId;

/// Enhanced status code (RFC 3463): class.subject.detail. In JSON `"5.7.1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Whether it says, for good, that the address of the recipient is not one (RFC 3463 3.2, RFC 7505): not that it is valid
    /// (X.1.5), nor that the sender's is not (X.1.7, X.1.8).
    #[must_use]
    pub fn is_invalid_recipient(self) -> bool {
        self.0 == 5 && self.1 == 1 && !matches!(self.2, 5 | 7 | 8)
    }
}

impl std::fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl std::str::FromStr for EnhancedCode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().filter(|p| !p.is_empty() && p.len() <= 3).ok_or(());
        let class = part()?.parse().map_err(|_| ())?;
        if !matches!(class, 2 | 4 | 5) {
            return Err(());
        }
        Ok(EnhancedCode(class, part()?.parse().map_err(|_| ())?, part()?.parse().map_err(|_| ())?))
    }
}

impl Serialize for EnhancedCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnhancedCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom("expected an enhanced status code such as 5.7.1"))
    }
}

/// One reply: what we say to a client, or what a remote server said to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpReply {
    /// Reply code, 200 to 599.
    pub code: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<EnhancedCode>,
    /// Public text, without codes; `\n` separates the lines of a multi-line reply.
    pub text: String,
}

impl SmtpReply {
    #[must_use]
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        SmtpReply { code, enhanced: Some(enhanced), text: text.into() }
    }

    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    #[must_use]
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }
}

impl std::fmt::Display for SmtpReply {
    /// The reply on one line, as it is read in a log: `550 5.7.1 Blocked`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

/// A record of `replies`, in the partition that whoever waits named; key: the message id or the command id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// For the SMTP session that accepted a message.
    Session { message_id: MessageId, reply: SmtpReply },
    /// For whoever gave a command: how many entries it acted on, and what to tell the person.
    Command { command_id: String, ok: bool, affected: u64, text: String },
    #[serde(other)]
    Unknown,
}
