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
use schemas::{Domain, SmtpReply};

use crate::outcome::local;
use crate::{Config, Error};

/// Servers tried for one site.
const MAX_ADDRESSES: usize = 8;
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

    /// The servers of a site, in the order to try them; only those that `source` can reach.
    ///
    /// # Errors
    /// A reply of ours: permanent when the domain takes no mail, transient when DNS does not answer.
    pub async fn servers(&self, site: &str, source: Option<IpAddr>) -> Result<Vec<Server>, SmtpReply> {
        let mut servers = if let Some((host, port)) = crate::route::host_and_port(site) {
            self.addresses(host, port).await?
        } else if let Some(ip) = Domain::parse(site).ok().and_then(|domain| domain.literal_ip()) {
            vec![Server { name: site.to_owned(), address: SocketAddr::new(ip, self.smtp_port) }]
        } else {
            self.mx_servers(site).await?
        };
        if let Some(source) = source {
            servers.retain(|server| server.address.is_ipv4() == source.is_ipv4());
        }
        servers.truncate(MAX_ADDRESSES);
        if servers.is_empty() {
            return Err(local(
                451,
                (4, 4, 4),
                format!("No server of {site} has an address that can be reached from here"),
            ));
        }
        Ok(servers)
    }

    async fn mx_servers(&self, domain: &str) -> Result<Vec<Server>, SmtpReply> {
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
                Err(reply) if reply.enhanced == Some(schemas::EnhancedCode(4, 4, 4)) => {
                    Err(local(550, (5, 1, 2), format!("The domain {domain} has neither MX nor address")))
                }
                other => other,
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
        self.addresses_of_all(domain, &hosts).await
    }

    async fn addresses_of_all(
        &self,
        domain: &str,
        hosts: &[(u16, String)],
    ) -> Result<Vec<Server>, SmtpReply> {
        let mut servers = Vec::new();
        let mut problem = None;
        for (_, host) in hosts {
            if servers.len() >= MAX_ADDRESSES {
                break;
            }
            match self.addresses(host, self.smtp_port).await {
                Ok(found) => servers.extend(found),
                Err(reply) => problem = Some(reply),
            }
        }
        match (servers.is_empty(), problem) {
            (false, _) => Ok(servers),
            (true, Some(reply)) if reply.enhanced != Some(schemas::EnhancedCode(4, 4, 4)) => Err(reply),
            (true, _) => Err(local(451, (4, 4, 4), format!("No MX of {domain} has an address"))),
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
            (true, None) => Err(local(451, (4, 4, 4), format!("{host} has no address"))),
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
