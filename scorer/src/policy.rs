//! The settings of one outgoing user, made ready to judge by: lists hashed, rules compiled, modes looked up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use schemas::settings::{
    CheckMode, Effective, Limits, LockPolicy, OutgoingUser, QuarantineResponse, SettingsView, SpamAction,
    UserAuth, UserSettings,
};
use schemas::verdict::{Classification, Symbol};
use schemas::{Domain, Envelope, UserId};

use crate::address_list::AddressList;
use crate::checks::CHECKS;
use crate::identity::Rule;

/// Extensions blocked when the settings name none: what a mail program runs, or hides a program in, at a click. To
/// block none, switch the check off: `checks = { blocked_attachment = "off" }`.
const DEFAULT_BLOCKED_EXTENSIONS: [&str; 22] = [
    "ade", "adp", "bat", "chm", "cmd", "cpl", "exe", "hta", "jar", "jse", "lnk", "msc", "msi", "msp", "mst",
    "pif", "scf", "scr", "vbe", "vbs", "wsf", "wsh",
];

/// What a symbol that is no proof weighs at most, however far it is turned up.
const LARGEST_HINT: f32 = 0.99;

/// What a message of one outgoing user is judged by.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Offset of the newest settings record that went into it.
    pub version: u64,
    pub identification: Vec<Rule>,
    pub spam_action: SpamAction,
    /// The model's own point when it is not set.
    pub spam_threshold: Option<f32>,
    pub quarantine_response: QuarantineResponse,
    pub automatic_lock: LockPolicy,
    pub limits: Limits,
    pub require_valid_sender: bool,
    /// Empty: any.
    pub from_domains: AddressList,
    pub allow_senders: AddressList,
    pub block_senders: AddressList,
    pub allow_recipients: AddressList,
    pub block_recipients: AddressList,
    /// Lower case, without the dot.
    pub blocked_extensions: Vec<String>,
    /// Where its mail leaves from, and as whom it is signed when its From domain has no key.
    pub delivery_pool: Option<String>,
    pub dkim_selector: Option<String>,
    /// One for each of [`CHECKS`], in its order.
    modes: Vec<CheckMode>,
    switched: HashMap<String, CheckMode>,
    /// By the name of a symbol, what its weight is multiplied with.
    weights: HashMap<String, f32>,
    /// Stands for what the author and the reverse-path are checked by; 0 where nothing is set.
    pub sender_rules: u32,
    /// Stands for what attachments are checked by; 0 where nothing is set.
    pub attachment_rules: u32,
}

impl Policy {
    #[must_use]
    pub fn of(settings: Effective, version: u64) -> Self {
        let from_domains: Vec<String> = settings.from_domains.iter().map(ToString::to_string).collect();
        let switched: HashMap<String, CheckMode> = settings.checks.into_iter().collect();
        let blocked_extensions = extensions(&settings.blocked_extensions);
        let valid_sender = if settings.require_valid_sender { "required" } else { "" };
        let are_default = settings.blocked_extensions.is_empty();
        let mode = |code: &str, default| switched.get(code).copied().unwrap_or(default);
        Policy {
            version,
            identification: rules(&settings.identification),
            spam_action: settings.spam_action,
            spam_threshold: settings.spam_threshold,
            quarantine_response: settings.quarantine_response,
            automatic_lock: settings.automatic_lock,
            limits: settings.limits,
            require_valid_sender: settings.require_valid_sender,
            sender_rules: fingerprint(from_domains.iter().map(String::as_str).chain([valid_sender])),
            attachment_rules: match are_default {
                true => 0,
                false => fingerprint(blocked_extensions.iter().map(String::as_str).chain(["set"])),
            },
            from_domains: AddressList::of(&from_domains),
            allow_senders: AddressList::of(&settings.allow_senders),
            block_senders: AddressList::of(&settings.block_senders),
            allow_recipients: AddressList::of(&settings.allow_recipients),
            block_recipients: AddressList::of(&settings.block_recipients),
            blocked_extensions,
            delivery_pool: settings.delivery_pool,
            dkim_selector: settings.dkim_selector,
            modes: CHECKS.iter().map(|c| mode(c.classification.code(), c.default_mode)).collect(),
            switched,
            weights: settings.weights.into_iter().collect(),
        }
    }

    /// The policy in force where nothing is set: for scoring a file.
    #[must_use]
    pub fn default_for_files() -> Self {
        Policy::of(Effective::of(&[&UserSettings::default()], true), 0)
    }

    /// The mode of number `index` of [`CHECKS`].
    #[must_use]
    pub fn check_mode(&self, index: usize) -> CheckMode {
        self.modes.get(index).copied().unwrap_or(CheckMode::Off)
    }

    /// Turns symbols up and down as the settings say. What is proof stays proof, and a hint never becomes one. Gives which
    /// were turned, and what they weighed.
    pub fn weigh(&self, symbols: &mut [Symbol]) -> Vec<(usize, f32)> {
        let mut turned = Vec::new();
        if self.weights.is_empty() {
            return turned;
        }
        for (index, symbol) in symbols.iter_mut().enumerate().filter(|(_, symbol)| symbol.weight < 1.0) {
            if let Some(factor) = self.weights.get(&symbol.name) {
                turned.push((index, symbol.weight));
                symbol.weight = (symbol.weight * factor).clamp(0.0, LARGEST_HINT);
            }
        }
        turned
    }

    /// The mode of a finding that is no structure check, such as `spam`.
    #[must_use]
    pub fn mode(&self, classification: Classification) -> CheckMode {
        self.switched.get(classification.code()).copied().unwrap_or(CheckMode::Block)
    }

    /// The mode of a check of [`ASKED`](crate::checks::ASKED).
    #[must_use]
    pub fn asked_mode(&self, classification: Classification) -> CheckMode {
        self.switched.get(classification.code()).copied().unwrap_or(CheckMode::Count)
    }
}

/// A number that stands for a set of texts, the empty one left out, whatever their order; 0 for none. It stands in verdicts:
/// FNV-1a, the same on every machine and in every version.
fn fingerprint<'a>(texts: impl Iterator<Item = &'a str>) -> u32 {
    let texts: BTreeSet<&str> = texts.filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        return 0;
    }
    let octets = texts.iter().flat_map(|text| text.bytes().chain([0]));
    octets.fold(0x811c_9dc5, |hash: u32, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)).max(1)
}

fn rules(settings: &[schemas::settings::IdentityRule]) -> Vec<Rule> {
    let compiled = settings.iter().filter_map(|rule| match Rule::compile(rule) {
        Ok(rule) => Some(rule),
        Err(error) => {
            tracing::error!(%error, "an identification rule has no valid regular expression, it is passed over");
            None
        }
    });
    compiled.collect()
}

fn extensions(settings: &[String]) -> Vec<String> {
    if settings.is_empty() {
        return DEFAULT_BLOCKED_EXTENSIONS.map(str::to_owned).to_vec();
    }
    let clean =
        |extension: &String| extension.trim().trim_start_matches("*.").trim_start_matches('.').to_lowercase();
    settings.iter().map(clean).filter(|extension| !extension.is_empty()).collect()
}

/// Policies by user, compiled once per change of the settings.
#[derive(Default)]
pub struct Policies {
    by_user: HashMap<UserId, Arc<Policy>>,
}

/// Policies kept; a user more and all are compiled anew when they are next needed.
const MAX_KEPT: usize = 10_000;

impl Policies {
    /// To be called when the settings changed.
    pub fn clear(&mut self) {
        self.by_user.clear();
    }

    /// The policy for a message. A user that was removed since the message was accepted is judged by the settings of
    /// its domain.
    pub fn of(&mut self, envelope: &Envelope, settings: impl FnOnce() -> (Effective, u64)) -> Arc<Policy> {
        if let Some(policy) = self.by_user.get(&envelope.user) {
            return Arc::clone(policy);
        }
        if self.by_user.len() >= MAX_KEPT {
            self.by_user.clear();
        }
        let (effective, version) = settings();
        let policy = Arc::new(Policy::of(effective, version));
        self.by_user.insert(envelope.user.clone(), Arc::clone(&policy));
        policy
    }
}

/// The settings in force for the user of an envelope, and their version.
#[must_use]
pub fn effective(settings: &SettingsView, user: &UserId, domain: &Domain) -> (Effective, u64) {
    let effective = match settings.user(user) {
        Some(user) => settings.effective(user),
        None => settings.effective(&removed_user(user, domain)),
    };
    (effective, settings.version)
}

fn removed_user(id: &UserId, domain: &Domain) -> OutgoingUser {
    let by_login = || UserAuth::Password { login: id.to_string(), password_hash: String::new() };
    let auth = id.as_str().parse().map_or_else(|_| by_login(), |range| UserAuth::Ip { range });
    OutgoingUser { domain: domain.clone(), auth, settings: UserSettings::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};

    #[test]
    fn a_removed_user_is_judged_by_its_domain() {
        let envelope = envelope("a@b.example", &["c@d.example"]);
        let (effective, version) = effective(&SettingsView::default(), &envelope.user, &envelope.domain);
        assert_eq!(version, 0);
        assert_eq!(effective.identification, [schemas::settings::IdentityRule::Auto]);
    }

    #[test]
    fn symbols_are_turned_up_and_down() {
        let policy = policy(r#"{"weights": {"A": 0.5, "B": 10.0, "C": 0.0, "D": 0.0}}"#);
        let mut symbols = [("A", 0.4), ("B", 0.3), ("C", 0.9), ("D", 1.0), ("E", 0.2)]
            .map(|(name, weight)| crate::evidence::symbol(name, weight, ""));
        policy.weigh(&mut symbols);
        assert_eq!(symbols.map(|symbol| symbol.weight), [0.2, 0.99, 0.0, 1.0, 0.2]);
    }

    #[test]
    fn a_broken_rule_is_passed_over() {
        let policy = policy(r#"{"identification": [{"header": "X", "regex": "("}, "user"]}"#);
        assert!(matches!(policy.identification[..], [Rule::User]));
    }

    #[test]
    fn extensions_are_read_however_they_are_written() {
        let policy = policy(r#"{"blocked_extensions": [".EXE", "*.scr", "js", ""]}"#);
        assert_eq!(policy.blocked_extensions, ["exe", "scr", "js"]);
        assert!(super::Policy::default_for_files().blocked_extensions.contains(&"exe".to_owned()));
    }
}
