//! Settings of an outgoing user, inherited: default, then domain, then user.
//!
//! These types refuse a key or value that they do not know: whoever writes one made a mistake. A stored record is read by
//! [`Setting::from_stored`](super::Setting::from_stored), which does without it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Domain;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpamAction {
    Enforce,
    /// Score, log and report, but deliver. Viruses are blocked all the same.
    Observe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineResponse {
    /// 550 to the client; the message is in quarantine.
    Reject,
    /// 250 to the client; the message is in quarantine all the same.
    Accept,
}

/// What happens over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldAction {
    Defer,
    Reject,
    Hold,
}

/// Which of several header fields of one name counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurrence {
    First,
    #[default]
    Last,
}

/// One rule that finds the identity behind a message. In settings either a short form (`"auto"`, `"envelope"`,
/// `"user"`, `"header:X-AuthUser"`) or a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RuleForm", into = "RuleForm")]
pub enum IdentityRule {
    /// The headers that cPanel, Plesk, DirectAdmin and Postfix add, then the envelope sender.
    Auto,
    /// The normalised reverse-path.
    Envelope,
    /// The authenticating user.
    User,
    Header {
        name: String,
        occurrence: Occurrence,
        regex: Option<String>,
        remove: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RuleForm {
    Short(String),
    Table(HeaderRuleTable),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderRuleTable {
    header: String,
    #[serde(default)]
    occurrence: Occurrence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    #[serde(default)]
    remove: bool,
}

impl TryFrom<RuleForm> for IdentityRule {
    type Error = String;
    fn try_from(form: RuleForm) -> Result<Self, String> {
        let header = |name: String, occurrence, regex, remove| {
            let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            if name_ok {
                Ok(IdentityRule::Header { name, occurrence, regex, remove })
            } else {
                Err(format!("`{name}` is no header field name"))
            }
        };
        match form {
            RuleForm::Short(text) => match text.as_str() {
                "auto" => Ok(IdentityRule::Auto),
                "envelope" => Ok(IdentityRule::Envelope),
                "user" => Ok(IdentityRule::User),
                other => match other.strip_prefix("header:") {
                    Some(name) => header(name.into(), Occurrence::Last, None, false),
                    None => Err(format!(
                        "`{other}` is no identification rule: use \"auto\", \"envelope\", \"user\", \"header:NAME\" or {{ header = \"NAME\", occurrence = \"last\", regex = \"...\", remove = true }}"
                    )),
                },
            },
            RuleForm::Table(t) => header(t.header, t.occurrence, t.regex, t.remove),
        }
    }
}

impl From<IdentityRule> for RuleForm {
    fn from(rule: IdentityRule) -> Self {
        match rule {
            IdentityRule::Auto => RuleForm::Short("auto".into()),
            IdentityRule::Envelope => RuleForm::Short("envelope".into()),
            IdentityRule::User => RuleForm::Short("user".into()),
            IdentityRule::Header { name, occurrence: Occurrence::Last, regex: None, remove: false } => {
                RuleForm::Short(format!("header:{name}"))
            }
            IdentityRule::Header { name: header, occurrence, regex, remove } => {
                RuleForm::Table(HeaderRuleTable { header, occurrence, regex, remove })
            }
        }
    }
}

/// Limits, in messages or recipients per window; absent: no limit of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_hour: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_day: Option<u64>,
    /// A month is 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_month: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_recipients_per_day: Option<u64>,
    /// Recipients of whom the receiver said that they do not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_recipients_per_day: Option<u64>,
    /// The same as a share of the recipients of a day, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_recipients_percent: Option<u64>,
    /// How many recipients of a day there must be before that share counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_recipients_min_sample: Option<u64>,
}

/// When a sender is locked by itself; each value that is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomaticLock {
    /// Whether the identity behind blocked messages is locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<bool>,
    /// Whether the whole outgoing user is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<bool>,
    /// Messages blocked as spam, phishing or virus ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_messages: Option<u32>,
    /// ... that were accepted within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_minutes: Option<u32>,
    /// How long such a lock holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_minutes: Option<u32>,
    /// How often it ends by itself; the next lock is for a person to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unlocks: Option<u32>,
    /// Whether the abuse address is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<bool>,
}

/// The same with nothing left to inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockPolicy {
    pub identity: bool,
    pub user: bool,
    pub blocked_messages: u32,
    pub within: Duration,
    pub timeout: Duration,
    pub max_unlocks: u32,
    pub notice: bool,
}

impl LockPolicy {
    /// An outgoing user known by its address is a whole server: one bad account must not stop it.
    fn of(levels: &[&UserSettings], ip_user: bool) -> Self {
        fn pick<T>(levels: &[&UserSettings], get: impl Fn(&AutomaticLock) -> Option<T>) -> Option<T> {
            levels.iter().rev().find_map(|level| level.automatic_lock.as_ref().and_then(&get))
        }
        let minutes = |n: u32| Duration::from_secs(u64::from(n) * 60);
        LockPolicy {
            identity: pick(levels, |lock| lock.identity).unwrap_or(true),
            user: pick(levels, |lock| lock.user).unwrap_or(!ip_user),
            blocked_messages: pick(levels, |lock| lock.blocked_messages).unwrap_or(5).clamp(1, 100),
            within: minutes(pick(levels, |lock| lock.within_minutes).unwrap_or(10)),
            timeout: minutes(pick(levels, |lock| lock.timeout_minutes).unwrap_or(60)),
            max_unlocks: pick(levels, |lock| lock.max_unlocks).unwrap_or(2),
            notice: pick(levels, |lock| lock.notice).unwrap_or(true),
        }
    }
}

/// What may be set at each of the three levels; what is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identification: Option<Vec<IdentityRule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_limit: Option<HeldAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic_lock: Option<AutomaticLock>,
    /// Concurrent SMTP connections per client IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spam_action: Option<SpamAction>,
    /// Score, 0 to 1, from which a message is spam; absent at every level: the model's point of at most 0.1 % false positives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spam_threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_response: Option<QuarantineResponse>,
    /// A From domain must resolve to a mailbox of this user's; null reverse-paths excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_valid_sender: Option<bool>,
    /// When not empty, the From field's domain must be one of these or a subdomain of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_domains: Option<Vec<Domain>>,
    /// Mailboxes or domains (`example.com` covers its subdomains) that pass whatever is found, but for viruses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_senders: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_senders: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_recipients: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_recipients: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_extensions: Option<Vec<String>>,
    /// Largest message, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u64>,
    /// Days a deferred message is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retry_days: Option<f64>,
    /// Name of an egress pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_pool: Option<String>,
    /// Selector of the outgoing domain's key, for mail whose From domain has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkim_selector: Option<String>,
    /// Checks that are switched: classification code to `off`, `count` or `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<std::collections::BTreeMap<String, CheckMode>>,
    /// What the weight of a symbol is multiplied with, 0 to 10, by the symbol's name. What is proof (weight 1) stays proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<std::collections::BTreeMap<String, f32>>,
}

/// What a check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckMode {
    Off,
    Count,
    Block,
}

/// Settings with nothing left to inherit.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    pub identification: Vec<IdentityRule>,
    pub limits: Limits,
    pub over_limit: HeldAction,
    pub automatic_lock: LockPolicy,
    pub max_connections: u32,
    pub spam_action: SpamAction,
    pub spam_threshold: Option<f32>,
    pub quarantine_response: QuarantineResponse,
    pub require_valid_sender: bool,
    pub from_domains: Vec<Domain>,
    pub allow_senders: Vec<String>,
    pub block_senders: Vec<String>,
    pub allow_recipients: Vec<String>,
    pub block_recipients: Vec<String>,
    pub blocked_extensions: Vec<String>,
    pub max_message_bytes: u64,
    pub max_retry: Duration,
    pub delivery_pool: Option<String>,
    pub dkim_selector: Option<String>,
    pub checks: std::collections::BTreeMap<String, CheckMode>,
    pub weights: std::collections::BTreeMap<String, f32>,
}

impl Effective {
    /// The settings in force, `levels` from the most general to the most specific.
    #[must_use]
    pub fn of(levels: &[&UserSettings], ip_user: bool) -> Self {
        fn pick<'a, T>(
            levels: &[&'a UserSettings],
            get: impl Fn(&'a UserSettings) -> Option<T>,
        ) -> Option<T> {
            levels.iter().rev().find_map(|level| get(level))
        }
        let default_rule = if ip_user { IdentityRule::Auto } else { IdentityRule::User };
        let days = pick(levels, |s| s.max_retry_days).unwrap_or(4.0).clamp(0.0, 365.0);
        let mut checks = std::collections::BTreeMap::new();
        for level in levels {
            checks.extend(level.checks.iter().flatten().map(|(name, mode)| (name.clone(), *mode)));
        }
        let mut weights = std::collections::BTreeMap::new();
        for level in levels {
            weights.extend(level.weights.iter().flatten().map(|(name, factor)| (name.clone(), *factor)));
        }
        let list =
            |get: fn(&UserSettings) -> Option<&Vec<String>>| pick(levels, get).cloned().unwrap_or_default();
        Effective {
            identification: pick(levels, |s| s.identification.clone()).unwrap_or_else(|| vec![default_rule]),
            limits: pick(levels, |s| s.limits.clone()).unwrap_or_default(),
            over_limit: pick(levels, |s| s.over_limit).unwrap_or(HeldAction::Defer),
            automatic_lock: LockPolicy::of(levels, ip_user),
            max_connections: pick(levels, |s| s.max_connections).unwrap_or(10),
            spam_action: pick(levels, |s| s.spam_action).unwrap_or(SpamAction::Enforce),
            spam_threshold: pick(levels, |s| s.spam_threshold),
            quarantine_response: pick(levels, |s| s.quarantine_response)
                .unwrap_or(QuarantineResponse::Reject),
            require_valid_sender: pick(levels, |s| s.require_valid_sender).unwrap_or(false),
            from_domains: pick(levels, |s| s.from_domains.clone()).unwrap_or_default(),
            allow_senders: list(|s| s.allow_senders.as_ref()),
            block_senders: list(|s| s.block_senders.as_ref()),
            allow_recipients: list(|s| s.allow_recipients.as_ref()),
            block_recipients: list(|s| s.block_recipients.as_ref()),
            blocked_extensions: list(|s| s.blocked_extensions.as_ref()),
            max_message_bytes: pick(levels, |s| s.max_message_bytes).unwrap_or(50 * 1024 * 1024),
            max_retry: Duration::from_secs_f64(days * 86_400.0),
            delivery_pool: pick(levels, |s| s.delivery_pool.clone()),
            dkim_selector: pick(levels, |s| s.dkim_selector.clone()),
            checks,
            weights,
        }
    }
}
