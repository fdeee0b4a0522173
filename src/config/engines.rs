//! `[scorer.rspamd]`, `[scorer.spamassassin]`, `[scorer.clamav]`: engines that are asked about each message.

use std::collections::BTreeMap;

use scorer::outside::engines::{
    Address, DEFAULT_WEIGHT, EngineConfig, Peer, RspamdTarget, Weights, WhenDown,
};

use super::raw;
use super::validate::Checker;

const MIB: usize = 1024 * 1024;
/// Of messages on the way to one engine, in memory and on its side.
const MOST_CONNECTIONS: usize = 1000;

/// What every engine has.
struct Common<'a> {
    table: &'static str,
    max_connections: Option<usize>,
    max_message_bytes: Option<usize>,
    when_down: Option<&'a str>,
    weight: Option<f32>,
    weights: &'a BTreeMap<String, f32>,
}

pub(super) fn engines(check: &mut Checker, scorer: &raw::Scorer) -> Vec<EngineConfig> {
    let mut engines = Vec::new();
    if let Some(rspamd) = &scorer.rspamd {
        let common = Common {
            table: "scorer.rspamd",
            max_connections: rspamd.max_connections,
            max_message_bytes: rspamd.max_message_bytes,
            when_down: rspamd.when_down.as_deref(),
            weight: rspamd.weight,
            weights: &rspamd.weights,
        };
        let peer = target(check, rspamd).map(Peer::Rspamd);
        engines.extend(common.engine(check, peer, 20, 10 * MIB));
    }
    if let Some(spamd) = &scorer.spamassassin {
        let common = Common::of("scorer.spamassassin", spamd);
        let peer =
            address(check, "scorer.spamassassin.address", &spamd.address, "127.0.0.1:783").map(Peer::Spamd);
        // spamd has five children, unless told otherwise, and its own clients send no more than half a MiB.
        engines.extend(common.engine(check, peer, 5, MIB / 2));
    }
    if let Some(clamd) = &scorer.clamav {
        let common = Common::of("scorer.clamav", clamd);
        if clamd.weight.is_some() {
            check.problem(
                "scorer.clamav.weight",
                "is for engines that give a score",
                "remove it; weights = { \"NAME\" = 0.3 } is for signatures that are no malware",
            );
        }
        let peer = address(check, "scorer.clamav.address", &clamd.address, "127.0.0.1:3310").map(Peer::Clamd);
        // Debian's StreamMaxLength.
        engines.extend(common.engine(check, peer, 10, 25 * MIB));
    }
    engines
}

impl<'a> Common<'a> {
    fn of(table: &'static str, raw: &'a raw::Engine) -> Self {
        Common {
            table,
            max_connections: raw.max_connections,
            max_message_bytes: raw.max_message_bytes,
            when_down: raw.when_down.as_deref(),
            weight: raw.weight,
            weights: &raw.weights,
        }
    }

    fn engine(
        &self,
        check: &mut Checker,
        peer: Option<Peer>,
        max_connections: usize,
        max_message_bytes: usize,
    ) -> Option<EngineConfig> {
        let key = |name: &str| format!("{}.{name}", self.table);
        let max_connections = self.max_connections.unwrap_or(max_connections);
        if !(1..=MOST_CONNECTIONS).contains(&max_connections) {
            check.problem(
                key("max_connections"),
                format!("{max_connections} is no number of connections"),
                format!("use 1 to {MOST_CONNECTIONS}, not more than the engine serves at once"),
            );
        }
        if self.max_message_bytes == Some(0) {
            check.problem(
                key("max_message_bytes"),
                "nothing would be sent to it",
                "remove the whole table to switch it off",
            );
        }
        let when_down = match self.when_down {
            None | Some("ignore") => WhenDown::Ignore,
            Some("defer") => WhenDown::Defer,
            Some("reject") => WhenDown::Reject,
            Some(other) => {
                check.problem(
                    key("when_down"),
                    format!("`{other}` is nothing that can be done"),
                    "use \"ignore\", \"defer\" or \"reject\"",
                );
                WhenDown::Ignore
            }
        };
        for (name, weight) in self
            .weight
            .iter()
            .map(|weight| (None, weight))
            .chain(self.weights.iter().map(|(n, w)| (Some(n), w)))
        {
            let key = name.map_or_else(|| key("weight"), |name| key(&format!("weights.{name}")));
            if !(0.0..=1.0).contains(weight) {
                check.problem(
                    key,
                    format!("{weight} is no weight"),
                    "use 0 to 1: how likely the message is spam when it is seen",
                );
            } else if name.is_some_and(|name| !is_symbol(name)) {
                check.problem(
                    key,
                    "is no name of a symbol",
                    "use letters, digits, `_`, `-` and `.`, at most 80",
                );
            }
        }
        let at_threshold = self.weight.unwrap_or(DEFAULT_WEIGHT);
        Some(EngineConfig {
            peer: peer?,
            max_connections,
            max_message_bytes: self.max_message_bytes.unwrap_or(max_message_bytes),
            when_down,
            weights: Weights { at_threshold, by_name: self.weights.clone() },
        })
    }
}

fn is_symbol(name: &str) -> bool {
    (1..=80).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn address(check: &mut Checker, key: &str, text: &str, example: &str) -> Option<Address> {
    let address = Address::parse(text);
    if address.is_none() {
        let fix = format!("write it as \"{example}\", or give the path of its Unix socket");
        check.problem(key, format!("`{text}` is no address and port"), fix);
    }
    address
}

fn target(check: &mut Checker, raw: &raw::Rspamd) -> Option<RspamdTarget> {
    let password = raw.password_file.as_ref().and_then(|file| match std::fs::read_to_string(file) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            check.problem(
                "scorer.rspamd.password_file",
                format!("{} cannot be read: {error}", file.display()),
                "give the path of a file that mailweir may read, with the password on one line",
            );
            None
        }
    });
    let bare = raw.url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    // A path on this machine is no URL.
    let address = bare.filter(|bare| !bare.starts_with('/')).and_then(Address::parse);
    if address.is_none() {
        check.problem(
            "scorer.rspamd.url",
            format!("`{}` is no URL of Rspamd's normal worker", raw.url),
            "write it as \"http://127.0.0.1:11333\", with its port and without a path",
        );
    }
    Some(RspamdTarget { address: address?, password })
}
