//! What receivers see of us: the addresses that mail leaves from, and the domain that it is signed as.

use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemas::Domain;
use schemas::settings::{DkimKey, SettingsView, dkim_keys_for};

use super::key::OurKey;
use crate::forwarded::is_public;

/// The pool used where none is set.
const DEFAULT_POOL: &str = "default";
/// How long the primary address is believed to stay the same.
const PRIMARY_KEPT: Duration = Duration::from_secs(60);

/// An address that mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub ip: IpAddr,
    /// Absent: the node's host name.
    pub ehlo: Option<String>,
}

/// The sources that mail of a user may leave from: those of its pool, wherever they are, else the primary address. Only those
/// that receivers can see.
pub(super) fn sources(
    settings: &SettingsView,
    wanted_pool: Option<&str>,
    primary: impl FnOnce() -> Vec<IpAddr>,
) -> Vec<Source> {
    let sources: Vec<Source> = match settings.pool(wanted_pool.unwrap_or(DEFAULT_POOL)) {
        Some(pool) => pool
            .sources
            .iter()
            .filter(|weighted| weighted.weight > 0)
            .filter_map(|weighted| settings.source(weighted.ip))
            .map(|source| Source { ip: source.ip, ehlo: source.ehlo.clone() })
            .collect(),
        None if wanted_pool.is_none() => primary().into_iter().map(|ip| Source { ip, ehlo: None }).collect(),
        None => Vec::new(),
    };
    sources.into_iter().filter(|source| is_public(source.ip)).collect()
}

/// The keys that delivery will sign a message with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedBy {
    /// Theirs.
    pub domain: Domain,
    pub keys: Vec<OurKey>,
}

pub(super) fn signed_by(
    settings: &SettingsView,
    from: &Domain,
    outgoing_domain: &Domain,
    selector: Option<&str>,
) -> Option<SignedBy> {
    let keys = dkim_keys_for(settings, Some(from), outgoing_domain, selector);
    let domain = keys.first()?.domain.clone();
    let key = |key: &DkimKey| OurKey {
        name: format!("{}._domainkey.{}", key.selector, key.domain),
        algorithm: key.algorithm,
        public_key: key.public_key.clone(),
    };
    Some(SignedBy { domain, keys: keys.into_iter().map(key).collect() })
}

/// The addresses that the kernel chooses for the internet.
#[derive(Debug, Default)]
pub(super) struct Primary(Mutex<Option<(Instant, Vec<IpAddr>)>>);

impl Primary {
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &*known {
            Some((until, addresses)) if now < *until => addresses.clone(),
            _ => {
                // Of the documentation (RFC 5737, RFC 3849): routed like any other, and nothing is sent.
                let addresses: Vec<IpAddr> =
                    ["192.0.2.1:9", "[2001:db8::1]:9"].into_iter().filter_map(local_address).collect();
                *known = Some((now + PRIMARY_KEPT, addresses.clone()));
                addresses
            }
        }
    }
}

fn local_address(peer: &str) -> Option<IpAddr> {
    let any = if peer.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use schemas::Timestamp;
    use schemas::settings::{DkimAlgorithm, EgressPool, EgressSource, Setting, WeightedSource};

    use super::*;

    fn settings(records: &[Setting]) -> SettingsView {
        let mut view = SettingsView::default();
        for record in records {
            let value = serde_json::to_vec(record).unwrap();
            view.apply(record.key().as_bytes(), Some(&value), 1).unwrap();
        }
        view
    }

    fn source(ip: &str, node: &str) -> Setting {
        Setting::EgressSource(EgressSource {
            node: node.into(),
            ip: ip.parse().unwrap(),
            ehlo: Some(format!("{node}.example")),
        })
    }

    fn pool(name: &str, ips: &[&str]) -> Setting {
        let weighted = |ip: &&str| WeightedSource { ip: ip.parse().unwrap(), weight: 1 };
        Setting::EgressPool(EgressPool { name: name.into(), sources: ips.iter().map(weighted).collect() })
    }

    #[test]
    fn the_addresses_are_those_of_the_pool_that_receivers_can_see() {
        let view = settings(&[
            source("192.0.2.10", "a"),
            source("192.0.2.11", "b"),
            source("10.0.0.5", "a"),
            pool("default", &["192.0.2.10", "192.0.2.11", "192.0.2.99"]),
            pool("inner", &["10.0.0.5"]),
        ]);
        let of = |view: &SettingsView, pool: Option<&str>, primary: &[&str]| {
            let primary = primary.iter().map(|ip| ip.parse().unwrap()).collect();
            sources(view, pool, || primary).iter().map(|s| s.ip.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&view, None, &["192.0.2.1"]), "192.0.2.10 192.0.2.11");
        assert_eq!(of(&view, Some("inner"), &["192.0.2.1"]), "", "receivers see another address");
        assert_eq!(of(&view, Some("lost"), &["192.0.2.1"]), "");
        let none = settings(&[]);
        assert_eq!(of(&none, None, &["192.0.2.1", "2001:db8::1"]), "192.0.2.1 2001:db8::1");
        assert_eq!(of(&none, None, &["10.1.2.3", "127.0.0.1"]), "");
    }

    #[test]
    fn only_the_keys_that_delivery_signs_with_are_looked_at() {
        let domain = |name: &str| Domain::parse(name).unwrap();
        let key = |name: &str, selector: &str, algorithm, created_at| {
            Setting::DkimKey(DkimKey {
                domain: domain(name),
                selector: selector.into(),
                algorithm,
                sealed_private_key: String::new(),
                public_key: format!("key of {selector}"),
                created_at: Some(Timestamp(created_at)),
            })
        };
        let (rsa, ed) = (DkimAlgorithm::RsaSha256, DkimAlgorithm::Ed25519Sha256);
        let view = settings(&[
            key("from.example", "e", ed, 1),
            key("from.example", "s1", rsa, 2),
            key("from.example", "s2", rsa, 1),
            key("out.example", "m", rsa, 1),
        ]);
        let of = |from: &str, outgoing: &str, selector: Option<&str>| {
            let signed_by = signed_by(&view, &domain(from), &domain(outgoing), selector)?;
            let keys = signed_by.keys.iter().map(|key| format!("{}: {}", key.name, key.public_key));
            Some(format!("{} by {}", signed_by.domain, keys.collect::<Vec<_>>().join(", ")))
        };
        let oldest =
            "from.example by s2._domainkey.from.example: key of s2, e._domainkey.from.example: key of e";
        assert_eq!(of("from.example", "out.example", Some("m")).as_deref(), Some(oldest));
        let named =
            "from.example by s1._domainkey.from.example: key of s1, e._domainkey.from.example: key of e";
        assert_eq!(of("from.example", "from.example", Some("s1")).as_deref(), Some(named));
        let outgoing = "out.example by m._domainkey.out.example: key of m";
        assert_eq!(of("other.example", "out.example", Some("m")).as_deref(), Some(outgoing));
        assert_eq!(of("other.example", "out.example", Some("n")), None);
        assert_eq!(of("other.example", "out.example", None), None);
    }
}
