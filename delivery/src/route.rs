//! Where the mail for a recipient goes: the relay host, a static route, or the domain's own servers.

use std::collections::BTreeMap;

use schemas::envelope::Recipient;
use schemas::settings::SettingsView;

/// Recipients that go the same way, by site. A site is the domain, or `host:port` where a route replaces MX.
#[must_use]
pub fn by_site(
    recipients: &[Recipient],
    relay_host: Option<&str>,
    settings: &SettingsView,
) -> BTreeMap<String, Vec<u32>> {
    let mut sites: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (index, recipient) in recipients.iter().enumerate() {
        let domain = recipient.forward_path.domain();
        let route = relay_host.or_else(|| settings.route(domain));
        let site = route.map_or_else(|| domain.to_string(), str::to_owned);
        sites.entry(site).or_default().push(index as u32);
    }
    sites
}

/// A host and port, as relay host and routes name them: `host:25`, `192.0.2.1:25`, `[2001:db8::1]:25`.
#[must_use]
pub fn host_and_port(site: &str) -> Option<(&str, u16)> {
    let (host, port) = site.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_and_port("mx.example:25"), Some(("mx.example", 25)));
        assert_eq!(host_and_port("[2001:db8::1]:25"), Some(("2001:db8::1", 25)));
        assert_eq!(host_and_port("example.com"), None);
        assert_eq!(host_and_port("[192.0.2.1]"), None);
    }
}
