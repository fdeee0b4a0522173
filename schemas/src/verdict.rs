//! Verdicts: what the scorer decided and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::envelope::{Client, Envelope};
use crate::reply::EnhancedCode;
use crate::senders::BlockedMessage;
use crate::{Domain, Mailbox, MessageId, Position, ReversePath, SmtpReply, Timestamp, UserId};

/// The person or script behind a message, as the identification rules found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub String);

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of message it is. The code (as in JSON) is stable: scripts of operators rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    // accepted
    Clean,
    Suspect,
    AllowListed,
    ObserveOnly,
    /// Mail of our own: never judged.
    Own,
    // permanent
    Spam,
    ForwardedSpam,
    Phishing,
    Virus,
    BlockedAttachment,
    LockedSender,
    FromDomainNotAllowed,
    BlockedSender,
    BlockedRecipient,
    LineTooLong,
    TooManyParts,
    DuplicateHeader,
    HeaderTooLong,
    NullPathManyRecipients,
    MessagePartial,
    RestrictedCharacters,
    TooManyReceived,
    InvalidSender,
    /// An engine that must be asked about every message did not answer.
    Unchecked,
    // counted by default, can be made to block
    InvalidHelo,
    DateOff,
    RawSubject,
    MissingDate,
    MissingFrom,
    ManyFrom,
    MalformedHeader,
    ListedHost,
    Dmarc,
    BulkSender,
    #[serde(other)]
    Unknown,
}

impl Classification {
    /// The stable code, as in JSON.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// What a person is told.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        self.row().1
    }

    /// The reply to the client for a message blocked as this, `reference` being our message id.
    #[must_use]
    pub fn reply(self, reference: MessageId) -> SmtpReply {
        let (_, _, enhanced, text) = self.row();
        SmtpReply::new(550, enhanced, format!("{text}, ref {reference}"))
    }

    /// `true` for the classes that count towards locks and are reported as abuse.
    #[must_use]
    pub fn is_abuse(self) -> bool {
        matches!(self, Classification::Spam | Classification::Phishing | Classification::Virus)
    }

    fn row(self) -> (&'static str, &'static str, EnhancedCode, &'static str) {
        use Classification as C;
        let policy = EnhancedCode(5, 7, 1);
        let content = EnhancedCode(5, 6, 0);
        match self {
            C::Clean => ("clean", "nothing was found against it", policy, "Accepted"),
            C::Suspect => ("suspect", "delivered, but close to the spam threshold", policy, "Accepted"),
            C::AllowListed => ("allow_listed", "an allow list entry let it pass", policy, "Accepted"),
            C::ObserveOnly => {
                ("observe_only", "would have been blocked, but the user is only observed", policy, "Accepted")
            }
            C::Own => ("own", "sent by Mailweir itself", policy, "Accepted"),
            C::Spam => {
                ("spam", "its content or its sender's behaviour is that of spam", policy, "Blocked as spam")
            }
            C::ForwardedSpam => {
                ("forwarded_spam", "spam that an account of the user forwards", policy, "Blocked as spam")
            }
            C::Phishing => ("phishing", "it tries to get at credentials", policy, "Blocked as phishing"),
            C::Virus => ("virus", "it carries malware", policy, "Blocked as virus"),
            C::BlockedAttachment => (
                "blocked_attachment",
                "it carries an attachment of a kind that is not allowed",
                policy,
                "Blocked: attachment type not allowed",
            ),
            C::LockedSender => ("locked_sender", "its sender is locked", policy, "Blocked: sender is locked"),
            C::FromDomainNotAllowed => (
                "from_domain_not_allowed",
                "its From domain is not among those the user may send as",
                policy,
                "Blocked: From domain not allowed",
            ),
            C::BlockedSender => {
                ("blocked_sender", "its sender is on a block list", policy, "Blocked: sender not allowed")
            }
            C::BlockedRecipient => (
                "blocked_recipient",
                "a recipient is on a block list",
                policy,
                "Blocked: recipient not allowed",
            ),
            C::LineTooLong => (
                "line_too_long",
                "a line is longer than 998 octets (RFC 5322 2.1.1)",
                content,
                "Blocked: line longer than 998 octets",
            ),
            C::TooManyParts => (
                "too_many_parts",
                "it has more than 100 MIME parts",
                content,
                "Blocked: more than 100 MIME parts",
            ),
            C::DuplicateHeader => (
                "duplicate_header",
                "a header field that may stand once stands twice (RFC 5322 3.6)",
                content,
                "Blocked: duplicate header field",
            ),
            C::HeaderTooLong => (
                "header_too_long",
                "its header section or a header field is too long",
                content,
                "Blocked: header too long",
            ),
            C::NullPathManyRecipients => (
                "null_path_many_recipients",
                "a null reverse-path with more than one recipient",
                policy,
                "Blocked: null reverse-path with more than one recipient",
            ),
            C::MessagePartial => (
                "message_partial",
                "a fragment (message/partial) cannot be checked",
                content,
                "Blocked: message/partial is not accepted",
            ),
            C::RestrictedCharacters => (
                "restricted_characters",
                "an address has characters that are used to inject routes or commands",
                EnhancedCode(5, 1, 3),
                "Blocked: restricted characters in address",
            ),
            C::TooManyReceived => (
                "too_many_received",
                "too many Received fields: a mail loop",
                EnhancedCode(5, 4, 6),
                "Blocked: too many hops",
            ),
            C::InvalidSender => (
                "invalid_sender",
                "the sender address is not valid",
                EnhancedCode(5, 1, 8),
                "Blocked: sender address is not valid",
            ),
            C::Unchecked => (
                "unchecked",
                "an engine that is to look at every message did not answer (when_down)",
                policy,
                "Blocked: could not be checked",
            ),
            C::InvalidHelo => (
                "invalid_helo",
                "the argument of EHLO is no host name or address literal",
                policy,
                "Blocked: invalid HELO",
            ),
            C::DateOff => (
                "date_off",
                "its Date is more than 7 days off",
                content,
                "Blocked: Date is more than 7 days off",
            ),
            C::RawSubject => (
                "raw_subject",
                "its Subject has raw non-ASCII octets",
                content,
                "Blocked: raw non-ASCII Subject",
            ),
            C::MissingDate => ("missing_date", "it has no Date", content, "Blocked: Date is missing"),
            C::MissingFrom => {
                ("missing_from", "it has no From with a valid mailbox", content, "Blocked: From is missing")
            }
            C::ManyFrom => (
                "many_from",
                "its From has more than one author",
                content,
                "Blocked: more than one author in From",
            ),
            C::MalformedHeader => (
                "malformed_header",
                "its header section has lines that are no fields (RFC 5322 2.2)",
                content,
                "Blocked: malformed header section",
            ),
            C::ListedHost => (
                "listed_host",
                "a DNS list names a host or domain in it",
                policy,
                "Blocked: it names a host or domain that is on a DNS list",
            ),
            C::Dmarc => (
                "dmarc",
                "receivers would find that its From domain fails DMARC (RFC 9989)",
                EnhancedCode(5, 7, 26),
                "Blocked: From domain fails DMARC, neither SPF nor DKIM is aligned",
            ),
            C::BulkSender => (
                "bulk_sender",
                "its From domain sends in bulk to a large receiver, without what that asks of bulk senders",
                policy,
                "Blocked: bulk mail without what its receiver asks for (one-click unsubscribe, DKIM, DMARC)",
            ),
            C::Unknown => ("unknown", "a class that this version does not know", policy, "Blocked"),
        }
    }
}

impl std::fmt::Display for Classification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    /// Stable name in upper case, as `DATE_OFF`.
    pub name: String,
    /// What it adds to the score, 0 to 1 being the range of the whole; a structure check that blocks weighs 1.
    pub weight: f32,
    /// What was seen, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

/// What happens with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    Release,
    Quarantine,
    Hold,
    #[serde(other)]
    Unknown,
}

/// What every later event says of its message, so that no reader has to join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageSummary {
    pub id: MessageId,
    pub accepted_at: Timestamp,
    pub user: UserId,
    pub domain: Domain,
    pub identity: Identity,
    pub reverse_path: ReversePath,
    /// Domain of the From field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_from: Option<Domain>,
    pub classification: Classification,
    /// With `observe_only`, what it would have been blocked as; spam and forwarded spam before anything else that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_as: Option<Classification>,
    pub size_bytes: u64,
    /// Their Message-ID, without the angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_message_id: Option<String>,
    /// The queue id of the client, read from the Received field it added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_queue_id: Option<String>,
    /// Decoded, cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `true` on mail of our own, which is not counted.
    #[serde(default)]
    pub own: bool,
    /// `true` on mail that an account only passes on, to recipients that somebody else chose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
}

/// A verdict on one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub message: MessageSummary,
    pub at: Timestamp,
    pub disposition: Disposition,
    /// 0 to 1.
    pub score: f32,
    pub symbols: Vec<Symbol>,
    /// Which rule found the identity: `header:X-AuthUser`, `received`, `envelope`, `user` ...
    pub identity_source: String,
    /// Version of the settings it was decided under: the offset of the newest settings record.
    pub policy_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    pub client: Client,
    pub recipients: Vec<Mailbox>,
    /// Where the message stands: in `accepted`.
    pub accepted: Position,
    /// Absent in verdicts of versions before it, on mail of our own, and where the message could not be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

/// What, besides the symbols, one must know to explain a verdict and to decide the same message again under other settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// The score from which the message was spam.
    pub spam: f32,
    /// The score from which it was suspect.
    pub suspect: f32,
    /// The model's own two points, where the settings set the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<(f32, f32)>,
    /// The first author, where it is not the reverse-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Mailbox>,
    /// Codes of the checks that were off: what they would have found is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
    /// Stands for the settings by which the author and the reverse-path were checked; 0: none was set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sender_rules: u32,
    /// Stands for the settings by which attachments were checked; 0: none was set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attachment_rules: u32,
    /// What symbols weighed before the settings turned them up or down: index among the symbols, weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unweighed: Vec<(usize, f32)>,
    /// Symbols that answer a check for which others were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<AskedCheck>,
    /// The client got a 250 though the message went to quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_250: bool,
    /// The limits of the user, by their names in settings: what counted against each before this message, and the limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, (u64, u64)>,
}

/// A symbol that answers a check for which others were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedCheck {
    /// Index among the symbols.
    pub symbol: usize,
    /// Code of the check.
    pub check: Classification,
    /// What it weighed before the settings had their say.
    pub weight: f32,
}

impl Basis {
    /// The points of the model, whatever the settings said: spam, suspect.
    #[must_use]
    pub fn of_model(&self) -> (f32, f32) {
        self.model.unwrap_or((self.spam, self.suspect))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Who is said to have done what the settings ask for and no person did.
pub const BY_POLICY: &str = "policy";

/// A record of `verdicts`, keyed by message id, partitioned by user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
// Written and read once per message: boxing the large arm would cost more than the size of the small ones.
#[allow(clippy::large_enum_variant)]
pub enum VerdictEvent {
    Judged(Verdict),
    /// A quarantined message was released by a person.
    Released {
        message: MessageSummary,
        by: String,
        at: Timestamp,
        command_id: String,
    },
    /// A quarantined message was confirmed as spam or removed by a person.
    Closed {
        message: MessageSummary,
        by: String,
        at: Timestamp,
        command_id: String,
        confirmed: bool,
    },
    /// An identity or user was locked or unlocked.
    Lock {
        user: UserId,
        domain: Domain,
        identity: Option<Identity>,
        locked: bool,
        by: String,
        at: Timestamp,
        reason: String,
        /// The messages that led to it, the newest last.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<BlockedMessage>,
    },
    #[serde(other)]
    Unknown,
}

/// The head of a record of `released` and of `quarantined`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub envelope: Envelope,
    pub message: MessageSummary,
    pub score: f32,
    pub symbols: Vec<Symbol>,
    /// Header fields to remove before it is signed: name, and which of the fields of that name (`last` or `first`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_fields: Vec<RemoveField>,
    /// Who released it, when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
    /// `true` on a copy that only keeps the message past its topic's retention: a queue entry owns its delivery.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

/// A header field to remove.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoveField {
    pub name: String,
    /// Counted from the top, from 0.
    pub index: usize,
}
