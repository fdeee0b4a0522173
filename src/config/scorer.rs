//! `[scorer]`: whom else it asks.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use schemas::Domain;
use scorer::outside::dns_lists::{DEFAULT_WEIGHT, DnsList, Kind};

use super::validate::Checker;
use super::{Alignment, raw};

pub(super) fn dns_lists(check: &mut Checker, raw: Vec<raw::DnsList>) -> Vec<DnsList> {
    let mut lists: Vec<DnsList> = Vec::new();
    for (index, list) in raw.into_iter().enumerate() {
        let list = dns_list(check, index, list);
        if lists.iter().any(|other| other.symbol == list.symbol) {
            check.problem(
                format!("scorer.dns_list[{index}].symbol"),
                format!("`{}` stands twice", list.symbol),
                "give each list its own symbol",
            );
        }
        lists.push(list);
    }
    lists
}

fn dns_list(check: &mut Checker, index: usize, list: raw::DnsList) -> DnsList {
    let key = |name: &str| format!("scorer.dns_list[{index}].{name}");
    let zone = list.zone.trim_matches('.').to_ascii_lowercase();
    if !is_name(&zone) || !zone.contains('.') {
        check.problem(
            key("zone"),
            format!("`{}` is no zone of a DNS list", list.zone),
            "write it as \"dbl.example.net\"",
        );
    }
    let kind = match list.kind.as_deref() {
        Some("domain") => Kind::Domain,
        Some("ip") => Kind::Ip,
        other => {
            let said = other
                .map_or_else(|| "is missing".to_owned(), |other| format!("`{other}` is no kind of list"));
            check.problem(key("kind"), said, "use \"domain\" or \"ip\": what the list has entries of");
            Kind::Domain
        }
    };
    let codes = codes(check, &key("codes"), &list.codes);
    // It is a secret: what is wrong with it is told without it.
    if list.key.as_deref().is_some_and(|secret| !is_name(secret)) {
        check.problem(
            key("key"),
            "is no label of a DNS name",
            "use the letters and digits that the operator of the list gave you",
        );
    }
    let weight = list.weight.unwrap_or(DEFAULT_WEIGHT);
    if !(0.0..=1.0).contains(&weight) {
        check.problem(key("weight"), format!("`{weight}` is not between 0 and 1"), "write it as 0.4");
    }
    let symbol = list.symbol.unwrap_or_else(|| DnsList::default_symbol(&zone));
    if !is_symbol(&symbol) {
        check.problem(
            key("symbol"),
            format!("`{symbol}` is no name of a symbol"),
            "use A to Z, digits and `_`, at most 64, as \"URL_LISTED\"",
        );
    }
    if let Some(point) = &list.test_point {
        if kind == Kind::Ip {
            check.problem(key("test_point"), "is for lists of domains", "remove it: it is 127.0.0.2");
        } else if !is_name(point) {
            check.problem(key("test_point"), format!("`{point}` is no name"), "write it as \"test.example\"");
        }
    }
    DnsList { zone, kind, codes, key: list.key, weight, symbol, test_point: list.test_point }
}

fn codes(check: &mut Checker, key: &str, texts: &[String]) -> Vec<Ipv4Net> {
    if texts.is_empty() {
        check.problem(
            key,
            "there is none, so nothing that the list says would count",
            "name the return codes that shall count, as [\"127.0.1.2\", \"127.0.2.0/24\"]",
        );
    }
    let answers = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let errors = Ipv4Net::new_assert(Ipv4Addr::new(127, 255, 255, 0), 24);
    let mut codes = Vec::new();
    for text in texts {
        let code = text.parse().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from));
        match code {
            Ok(code) if answers.contains(&code) && !errors.contains(&code) => codes.push(code),
            Ok(_) => check.problem(
                key,
                format!("`{text}` is no return code of a list: those are in 127.0.0.0/8, and 127.255.255.0/24 are errors"),
                "write it as \"127.0.1.2\" or \"127.0.2.0/24\"",
            ),
            Err(_) => check.problem(
                key,
                format!("`{text}` is no address or range"),
                "write it as \"127.0.1.2\" or \"127.0.2.0/24\"",
            ),
        }
    }
    codes
}

pub(super) fn alignment(check: &mut Checker, raw: &raw::Alignment) -> Alignment {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (index, text) in raw.addresses.iter().enumerate() {
        match text.parse() {
            Ok(ip) => addresses.push(ip),
            Err(_) => check.problem(
                format!("scorer.alignment.addresses[{index}]"),
                format!("`{text}` is no address"),
                "write it as \"192.0.2.10\"",
            ),
        }
    }
    Alignment { enabled: raw.enabled.unwrap_or(true), addresses }
}

fn is_name(text: &str) -> bool {
    Domain::parse(text).is_ok_and(|domain| domain.literal_ip().is_none())
}

fn is_symbol(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
