//! Which address a message leaves from.

use std::net::IpAddr;

use schemas::MessageId;
use schemas::settings::{EgressPool, EgressSource, SettingsView};

/// The source of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Absent: the kernel chooses.
    pub ip: Option<IpAddr>,
    /// Absent: the PTR name of the address, else the node's host name.
    pub ehlo: Option<String>,
    pub pool: Option<String>,
}

/// Where a message leaves from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Here {
        source: Source,
        /// Of the same pool and the other address family, for targets that `source` does not reach.
        other: Option<Source>,
    },
    /// Sources of its pool are on other nodes alone; this one shall send it.
    Elsewhere { node: String, pool: String },
    /// Its pool has no source anywhere.
    Nowhere { pool: String },
}

/// The pool used where none is set.
const DEFAULT_POOL: &str = "default";

/// A source of the wanted pool, of the pool `default` when none is wanted, and the node's primary address when there is no
/// such. Weighted, and the same for the same message as long as the pool stays as it is. Never one of another pool: mail
/// that was kept apart is not mixed because an address is missing.
#[must_use]
pub fn choose(
    settings: &SettingsView,
    node: &str,
    wanted_pool: Option<&str>,
    message_id: MessageId,
) -> Choice {
    let name = wanted_pool.unwrap_or(DEFAULT_POOL);
    match settings.pool(name) {
        Some(pool) => in_pool(settings, node, pool, message_id),
        None if wanted_pool.is_none() => {
            Choice::Here { source: Source { ip: None, ehlo: None, pool: None }, other: None }
        }
        None => Choice::Nowhere { pool: name.to_owned() },
    }
}

type Weighted<'a> = (&'a EgressSource, u64);

fn in_pool(settings: &SettingsView, node: &str, pool: &EgressPool, message_id: MessageId) -> Choice {
    let all: Vec<Weighted<'_>> = pool
        .sources
        .iter()
        .filter_map(|weighted| Some((settings.source(weighted.ip)?, u64::from(weighted.weight))))
        .collect();
    let ours: Vec<Weighted<'_>> = all.iter().copied().filter(|(source, _)| source.node == node).collect();
    let source =
        |of: &EgressSource| Source { ip: Some(of.ip), ehlo: of.ehlo.clone(), pool: Some(pool.name.clone()) };
    // The two points must not hang together, or some sources would be chosen together always and others never.
    let point = hash(message_id);
    let second_point = point >> 32;
    let Some(first) = pick(&ours, point) else {
        return match pick(&all, second_point) {
            Some(of) => Choice::Elsewhere { node: of.node.clone(), pool: pool.name.clone() },
            None => Choice::Nowhere { pool: pool.name.clone() },
        };
    };
    let others: Vec<Weighted<'_>> =
        ours.iter().copied().filter(|(of, _)| of.ip.is_ipv4() != first.ip.is_ipv4()).collect();
    Choice::Here { source: source(first), other: pick(&others, second_point).map(source) }
}

/// The source at a point of the circle that the weights divide; none when they have no weight.
fn pick<'a>(among: &[Weighted<'a>], point: u64) -> Option<&'a EgressSource> {
    let total: u64 = among.iter().map(|(_, weight)| weight).sum();
    let mut left = point.checked_rem(total)?;
    for (source, weight) in among {
        if left < *weight {
            return Some(source);
        }
        left -= weight;
    }
    None
}

/// FNV-1a of the id.
fn hash(message_id: MessageId) -> u64 {
    message_id
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemas::Timestamp;
    use schemas::settings::{Setting, WeightedSource};

    use super::*;

    fn settings(records: &[Setting]) -> SettingsView {
        let mut view = SettingsView::default();
        for (offset, record) in records.iter().enumerate() {
            view.apply(record.key().as_bytes(), Some(&serde_json::to_vec(record).unwrap()), offset as u64)
                .unwrap();
        }
        view
    }

    fn source(ip: &str, node: &str) -> Setting {
        Setting::EgressSource(EgressSource { node: node.into(), ip: ip.parse().unwrap(), ehlo: None })
    }

    fn pool(name: &str, members: &[(&str, u32)]) -> Setting {
        let weighted =
            |(ip, weight): &(&str, u32)| WeightedSource { ip: ip.parse().unwrap(), weight: *weight };
        Setting::EgressPool(EgressPool { name: name.into(), sources: members.iter().map(weighted).collect() })
    }

    /// How often each is chosen, out of 4,000 messages: source, other, node.
    fn counts(view: &SettingsView, node: &str, wanted: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let ip = |source: Source| source.ip.map_or_else(String::new, |ip| ip.to_string());
        for n in 0..4000 {
            let id = MessageId::derived(&n.to_string(), Timestamp(0));
            let chosen = match choose(view, node, Some(wanted), id) {
                Choice::Here { source, other } => {
                    format!("{} {}", ip(source), other.map(ip).unwrap_or_default())
                }
                Choice::Elsewhere { node, .. } => node,
                Choice::Nowhere { pool } => panic!("{pool} is there"),
            };
            *counts.entry(chosen.trim_end().to_owned()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn weights_and_nodes_count() {
        let view = settings(&[
            source("127.0.0.2", "a"),
            source("127.0.0.3", "a"),
            source("127.0.0.4", "b"),
            source("127.0.0.5", "c"),
            pool("bulk", &[("127.0.0.2", 1), ("127.0.0.3", 3)]),
            pool("far", &[("127.0.0.4", 1), ("127.0.0.5", 3)]),
        ]);
        let bulk = counts(&view, "a", "bulk");
        assert!((800..1200).contains(&bulk["127.0.0.2"]), "{bulk:?}");
        let far = counts(&view, "a", "far");
        assert!((800..1200).contains(&far["b"]) && far["b"] + far["c"] == 4000, "{far:?}");
        assert_eq!(counts(&view, "b", "far")["127.0.0.4"], 4000, "a node that has one sends itself");
    }

    /// The order of the pool is one that makes the low bits of both choices the same.
    #[test]
    fn the_other_family_is_chosen_by_weight_too() {
        let all = ["127.0.0.2", "::1", "127.0.0.3", "::2"];
        let mut records: Vec<Setting> = all.map(|ip| source(ip, "a")).into();
        records.push(pool("mixed", &all.map(|ip| (ip, 1))));
        let mixed = counts(&settings(&records), "a", "mixed");
        assert_eq!(mixed.len(), 8, "each v4 with each v6, both ways: {mixed:?}");
        assert!(mixed.values().all(|n| (400..600).contains(n)), "{mixed:?}");
    }

    #[test]
    fn no_other_pool_stands_in() {
        let id = MessageId::derived("x", Timestamp(0));
        let view = settings(&[source("127.0.0.2", "a"), pool("default", &[("127.0.0.2", 1)])]);
        let nowhere = Choice::Nowhere { pool: "far".into() };
        assert_eq!(choose(&view, "a", Some("far"), id), nowhere);
        let lost = settings(&[pool("far", &[("127.0.0.9", 1)])]);
        assert_eq!(choose(&lost, "a", Some("far"), id), nowhere, "its sources are gone");
        assert_eq!(choose(&settings(&[]), "a", Some("far"), id), nowhere);
        let ip = |choice| match choice {
            Choice::Here { source, .. } => source.ip,
            other => panic!("{other:?}"),
        };
        assert_eq!(ip(choose(&view, "a", None, id)), Some(IpAddr::from([127, 0, 0, 2])));
        assert_eq!(ip(choose(&settings(&[]), "a", None, id)), None, "nothing is set: the primary address");
    }
}
