//! MX and addresses of a site (RFC 5321 5.1, RFC 7505), over a real resolver with its cache.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use mail_auth::MessageAuthenticator;
use rand::seq::SliceRandom;
use schemas::{Domain, EnhancedCode, SmtpReply};

use crate::outcome::local;
use crate::{Config, Error};

/// Servers tried for one site.
const MAX_ADDRESSES: usize = 8;
/// Names of servers that are looked up for one site.
const MAX_HOSTS: usize = 20;
/// How long the name of one of our own addresses is believed, and how long its absence.
const PTR_KEPT: Duration = Duration::from_secs(3600);
const NO_PTR_KEPT: Duration = Duration::from_secs(300);

/// The resolver; it also checks signatures.
pub struct Dns {
    authenticator: MessageAuthenticator,
    hostname: String,
    smtp_port: u16,
    /// Names of egress sources, each until when. The resolver remembers no time-outs, and each message would wait anew.
    names: Mutex<HashMap<IpAddr, (Instant, Option<String>)>>,
}

/// A server that may take the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub address: SocketAddr,
}

impl Dns {
    /// # Errors
    /// When the system's resolver settings cannot be read and none are given.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let (resolver, mut options) = if config.dns_servers.is_empty() {
            hickory_resolver::system_conf::read_system_conf()
                .map_err(|error| Error::Resolver(error.to_string()))?
        } else {
            (
                ResolverConfig::from_name_servers(config.dns_servers.iter().map(name_server).collect()),
                ResolverOpts::default(),
            )
        };
        options.cache_size = 100_000;
        let authenticator = MessageAuthenticator::new(resolver, options)
            .map_err(|error| Error::Resolver(error.to_string()))?;
        Ok(Dns {
            authenticator,
            hostname: config.hostname.clone(),
            smtp_port: config.smtp_port,
            names: Mutex::default(),
        })
    }

    #[must_use]
    pub fn authenticator(&self) -> &MessageAuthenticator {
        &self.authenticator
    }

    /// The servers of a site, in the order to try them; only those that `source` can reach. `has_other`: another source
    /// reaches the other address family, so there are none when the best servers have no address of this one.
    ///
    /// # Errors
    /// A reply of ours: permanent when the domain takes no mail, transient when DNS does not answer.
    pub async fn servers(
        &self,
        site: &str,
        source: Option<IpAddr>,
        has_other: bool,
    ) -> Result<Vec<Server>, SmtpReply> {
        let mut servers = if let Some((host, port)) = crate::route::host_and_port(site) {
            in_turn(self.addresses(host, port).await?, source)
        } else if let Some(ip) = Domain::parse(site).ok().and_then(|domain| domain.literal_ip()) {
            let server = Server { name: site.to_owned(), address: SocketAddr::new(ip, self.smtp_port) };
            in_turn(vec![server], source)
        } else {
            self.mx_servers(site, source, has_other).await?
        };
        servers.truncate(MAX_ADDRESSES);
        if servers.is_empty() {
            return Err(local(
                451,
                NO_ADDRESS,
                format!("No server of {site} has an address that can be reached from here"),
            ));
        }
        Ok(servers)
    }

    async fn mx_servers(
        &self,
        domain: &str,
        source: Option<IpAddr>,
        has_other: bool,
    ) -> Result<Vec<Server>, SmtpReply> {
        let mut hosts = match self.authenticator.resolver().mx_lookup(absolute(domain)).await {
            Ok(lookup) => mx_hosts(lookup.answers()),
            Err(error) if error.is_nx_domain() => {
                return Err(local(550, (5, 1, 2), format!("The domain {domain} does not exist")));
            }
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(error) => return Err(dns_failed(domain, &error)),
        };
        if let [(_, only)] = &hosts[..]
            && only.is_empty()
        {
            return Err(local(556, (5, 1, 10), format!("The domain {domain} takes no mail (null MX)")));
        }
        // A null MX beside others means nothing (RFC 7505 3).
        hosts.retain(|(_, host)| !host.is_empty());
        if hosts.is_empty() {
            // No MX: the domain's own address (RFC 5321 5.1).
            return match self.addresses(domain, self.smtp_port).await {
                Err(reply) if is_no_address(&reply) => {
                    Err(local(550, (5, 1, 2), format!("The domain {domain} has neither MX nor address")))
                }
                other => other.map(|found| in_turn(found, source)),
            };
        }
        if let Some((ours, _)) = hosts.iter().find(|(_, name)| name.eq_ignore_ascii_case(&self.hostname)) {
            let limit = *ours;
            hosts.retain(|(preference, _)| *preference < limit);
            if hosts.is_empty() {
                return Err(local(
                    550,
                    (5, 4, 6),
                    format!("The best server of {domain} is this one: a loop"),
                ));
            }
        }
        hosts.truncate(MAX_HOSTS);
        self.addresses_of_all(domain, &hosts, source, has_other).await
    }

    async fn addresses_of_all(
        &self,
        domain: &str,
        hosts: &[(u16, String)],
        source: Option<IpAddr>,
        has_other: bool,
    ) -> Result<Vec<Server>, SmtpReply> {
        let mut servers = Vec::new();
        let (mut problem, mut any) = (None, false);
        for equals in hosts.chunk_by(|a, b| a.0 == b.0) {
            let mut found = Vec::new();
            for (_, host) in equals {
                match self.addresses(host, self.smtp_port).await {
                    Ok(of_host) => found.extend(of_host),
                    Err(reply) => problem = Some(reply),
                }
            }
            any |= !found.is_empty();
            servers.extend(in_turn(found, source));
            if servers.len() >= MAX_ADDRESSES || (has_other && any && servers.is_empty()) {
                break;
            }
        }
        match (any, problem) {
            (true, _) => Ok(servers),
            (false, Some(reply)) if !is_no_address(&reply) => Err(reply),
            (false, _) => Err(local(451, NO_ADDRESS, format!("No MX of {domain} has an address"))),
        }
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<Server>, SmtpReply> {
        let server = |ip| Server { name: host.to_owned(), address: SocketAddr::new(ip, port) };
        if let Ok(ip) = host.parse() {
            return Ok(vec![server(ip)]);
        }
        let resolver = self.authenticator.resolver();
        let (v6, v4) =
            tokio::join!(resolver.ipv6_lookup(absolute(host)), resolver.ipv4_lookup(absolute(host)));
        let mut found: Vec<Server> = Vec::new();
        let mut problem = None;
        for lookup in [v6, v4] {
            match lookup {
                Ok(lookup) => {
                    found.extend(lookup.answers().iter().filter_map(|r| address(&r.data)).map(server));
                }
                Err(error) if error.is_no_records_found() || error.is_nx_domain() => {}
                Err(error) => problem = Some(dns_failed(host, &error)),
            }
        }
        match (found.is_empty(), problem) {
            (false, _) => Ok(found),
            (true, Some(reply)) => Err(reply),
            (true, None) => Err(local(451, NO_ADDRESS, format!("{host} has no address"))),
        }
    }

    /// The PTR name of an address of ours, for EHLO.
    pub async fn ptr(&self, ip: IpAddr) -> Option<String> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).cloned();
        if let Some((until, name)) = known
            && Instant::now() < until
        {
            return name;
        }
        let name = self.look_up_ptr(ip).await;
        let kept = if name.is_some() { PTR_KEPT } else { NO_PTR_KEPT };
        let entry = (Instant::now() + kept, name.clone());
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(ip, entry);
        name
    }

    async fn look_up_ptr(&self, ip: IpAddr) -> Option<String> {
        let lookup = self.authenticator.resolver().reverse_lookup(ip).await.ok()?;
        lookup.answers().iter().find_map(|record| match &record.data {
            RData::PTR(name) => {
                let name = name.0.to_ascii();
                let name = name.trim_end_matches('.');
                (name.contains('.') && !name.contains('_'))
                    .then(|| Domain::parse(name).ok().map(|d| d.to_string()))
                    .flatten()
            }
            _ => None,
        })
    }
}

/// Unable to route (RFC 3463 3.5).
const NO_ADDRESS: (u8, u16, u16) = (4, 4, 4);

/// Whether a reply of [`Dns::servers`] says that there is no server to connect to from that source.
pub(crate) fn is_no_address(reply: &SmtpReply) -> bool {
    let (class, subject, detail) = NO_ADDRESS;
    reply.enhanced == Some(EnhancedCode(class, subject, detail))
}

/// Servers of one preference as `source` reaches them, the two address families in turn: whichever is broken, the other
/// comes soon.
fn in_turn(found: Vec<Server>, source: Option<IpAddr>) -> Vec<Server> {
    let is_reached = |server: &Server| source.is_none_or(|ip| ip.is_ipv4() == server.address.is_ipv4());
    let (v4, v6): (Vec<_>, Vec<_>) =
        found.into_iter().filter(is_reached).partition(|server| server.address.is_ipv4());
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut servers = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return servers;
        }
        servers.extend(pair.into_iter().flatten());
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// Without the final dot a name would be looked up under the search domains too.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn dns_failed(name: &str, error: &NetError) -> SmtpReply {
    let first_line = error.to_string().lines().next().unwrap_or_default().to_owned();
    local(451, (4, 4, 3), format!("DNS gives no answer for {name}: {first_line}"))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// Preference and host, best first, those of one preference in random order. The root is the empty name.
fn mx_hosts(records: &[hickory_resolver::proto::rr::Record]) -> Vec<(u16, String)> {
    let mut hosts: Vec<(u16, String)> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => {
                Some((mx.preference, mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase()))
            }
            _ => None,
        })
        .collect();
    hosts.shuffle(&mut rand::rng());
    hosts.sort_by_key(|(preference, _)| *preference);
    hosts
}
