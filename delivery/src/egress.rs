//! Which address a message leaves from.

use std::net::IpAddr;

use schemas::MessageId;
use schemas::settings::{EgressPool, SettingsView};

/// The source of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Absent: the kernel chooses.
    pub ip: Option<IpAddr>,
    /// Absent: the PTR name of the address, else the node's host name.
    pub ehlo: Option<String>,
    pub pool: Option<String>,
}

/// The source in the wanted pool, else in the pool `default`, else the node's primary address. Weighted, and the same for
/// the same message as long as the pool stays as it is.
#[must_use]
pub fn choose(
    settings: &SettingsView,
    node: &str,
    wanted_pool: Option<&str>,
    message_id: MessageId,
) -> Source {
    let primary = Source { ip: None, ehlo: None, pool: None };
    let pools = [wanted_pool, Some("default")].into_iter().flatten().filter_map(|name| settings.pool(name));
    pools.map(|pool| in_pool(settings, node, pool, message_id)).find_map(|found| found).unwrap_or(primary)
}

fn in_pool(settings: &SettingsView, node: &str, pool: &EgressPool, message_id: MessageId) -> Option<Source> {
    let ours: Vec<_> = pool
        .sources
        .iter()
        .filter_map(|weighted| Some((settings.source(weighted.ip)?, u64::from(weighted.weight))))
        .filter(|(source, weight)| source.node == node && *weight > 0)
        .collect();
    let total: u64 = ours.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut point = hash(message_id) % total;
    for (source, weight) in ours {
        if point < weight {
            return Some(Source {
                ip: Some(source.ip),
                ehlo: source.ehlo.clone(),
                pool: Some(pool.name.clone()),
            });
        }
        point -= weight;
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
    use schemas::Timestamp;
    use schemas::settings::{EgressSource, Setting, WeightedSource};

    use super::*;

    fn settings(records: &[Setting]) -> SettingsView {
        let mut view = SettingsView::default();
        for (offset, record) in records.iter().enumerate() {
            view.apply(record.key().as_bytes(), Some(&serde_json::to_vec(record).unwrap()), offset as u64)
                .unwrap();
        }
        view
    }

    #[test]
    fn weights_nodes_and_fallbacks() {
        let ip = |n: u8| IpAddr::from([127, 0, 0, n]);
        let source = |n: u8, node: &str| {
            Setting::EgressSource(EgressSource { node: node.into(), ip: ip(n), ehlo: None })
        };
        let pool = |name: &str, members: &[(u8, u32)]| {
            let sources =
                members.iter().map(|(n, weight)| WeightedSource { ip: ip(*n), weight: *weight }).collect();
            Setting::EgressPool(EgressPool { name: name.into(), sources })
        };
        let view = settings(&[
            source(2, "a"),
            source(3, "a"),
            source(4, "b"),
            pool("bulk", &[(2, 1), (3, 3)]),
            pool("far", &[(4, 1)]),
            pool("default", &[(2, 1)]),
        ]);
        let counts = (0..4000).fold([0; 2], |mut counts, n| {
            let chosen = choose(&view, "a", Some("bulk"), MessageId::derived(&n.to_string(), Timestamp(0)));
            counts[usize::from(chosen.ip == Some(ip(3)))] += 1;
            counts
        });
        assert!((800..1200).contains(&counts[0]), "{counts:?}");
        let id = MessageId::derived("x", Timestamp(0));
        assert_eq!(
            choose(&view, "a", Some("far"), id).ip,
            Some(ip(2)),
            "no source of this node: the default pool"
        );
        assert_eq!(choose(&settings(&[]), "a", Some("far"), id).ip, None);
    }
}
