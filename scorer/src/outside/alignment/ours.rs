//! What receivers see of us: the addresses that mail leaves from, and the domain that it is signed as.

use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemas::Domain;
use schemas::settings::SettingsView;

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

/// Domain and selectors of our keys for a message: the From domain's, else those of the outgoing domain under the user's
/// selector.
pub(super) fn signed_by(
    settings: &SettingsView,
    from: &Domain,
    outgoing_domain: &Domain,
    selector: Option<&str>,
) -> Option<(Domain, Vec<String>)> {
    let selectors: Vec<String> = settings.dkim_keys(from).map(|key| key.selector.clone()).collect();
    if !selectors.is_empty() {
        return Some((from.clone(), selectors));
    }
    let selector = selector?;
    let has_key = settings.dkim_keys(outgoing_domain).any(|key| key.selector == selector);
    has_key.then(|| (outgoing_domain.clone(), vec![selector.to_owned()]))
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
    use schemas::settings::{DkimAlgorithm, DkimKey, EgressPool, EgressSource, Setting, WeightedSource};

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
    fn the_from_domain_s_own_key_signs_first() {
        let domain = |name: &str| Domain::parse(name).unwrap();
        let key = |name: &str, selector: &str| {
            Setting::DkimKey(DkimKey {
                domain: domain(name),
                selector: selector.into(),
                algorithm: DkimAlgorithm::RsaSha256,
                sealed_private_key: String::new(),
                public_key: String::new(),
                created_at: None,
            })
        };
        let view = settings(&[key("from.example", "s1"), key("from.example", "s2"), key("out.example", "m")]);
        let of = |from: &str, selector: Option<&str>| {
            signed_by(&view, &domain(from), &domain("out.example"), selector)
                .map(|(domain, selectors)| format!("{domain} {}", selectors.join(" ")))
        };
        assert_eq!(of("from.example", Some("m")).as_deref(), Some("from.example s1 s2"));
        assert_eq!(of("other.example", Some("m")).as_deref(), Some("out.example m"));
        assert_eq!(of("other.example", Some("n")), None);
        assert_eq!(of("other.example", None), None);
    }
}
