//! `[[egress_source]]`, `[[egress_pool]]` and `[[route]]`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemas::Domain;
use schemas::settings::{EgressPool, EgressSource, StaticRoute, WeightedSource};

use super::node::Node;
use super::problem::Problem;
use super::users::{keep, parse_domain};

const IP_FIX: &str = "write an address of this server, as \"192.0.2.10\"";
const POOL_FIX: &str = "write a list of the addresses of [[egress_source]]s, as [\"192.0.2.10\"] or [{ ip = \"192.0.2.10\", weight = 2 }]";
const WEIGHT_FIX: &str = "write a whole number from 1 to 1000";
const HOST_FIX: &str =
    "write host and port, as \"mx.customer.example:25\", \"192.0.2.25:25\" or \"[2001:db8::25]:25\"";

pub fn source(node: &Node, problems: &mut Vec<Problem>) -> Option<EgressSource> {
    problems.extend(node.unknown_keys(&["node", "ip", "ehlo"]));
    let name = required(
        node,
        "node",
        "write the node's name as in its mailweir.toml, as node = \"node1\"",
        problems,
    )
    .and_then(|at| {
        let fix = "use letters, digits, `-`, `_` and `.`, at most 64, as in mailweir.toml";
        keep(at.parse("a node name", fix, |text| is_name(text).then(|| text.to_owned())), problems)
    });
    let ip = required(node, "ip", IP_FIX, problems).and_then(|at| keep(address(at), problems));
    let ehlo = node.get("ehlo").and_then(|at| {
        let fix = "write the name that the address has in DNS, as \"out1.hoster.example\"";
        keep(at.parse("a host name", fix, |text| Domain::parse(text).ok()), problems)
    });
    Some(EgressSource { node: name?, ip: ip?, ehlo: ehlo.map(|name| name.to_string()) })
}

pub fn pool(node: &Node, sources: &BTreeSet<IpAddr>, problems: &mut Vec<Problem>) -> Option<EgressPool> {
    problems.extend(node.unknown_keys(&["name", "sources"]));
    let name = required(node, "name", "write a name, as name = \"bulk\"", problems).and_then(|at| {
        let fix = "use letters, digits, `-`, `_` and `.`, at most 64";
        keep(at.parse("a pool name", fix, |text| is_name(text).then(|| text.to_owned())), problems)
    });
    let list = required(node, "sources", POOL_FIX, problems)?;
    let Some(items) = list.items().filter(|items| !items.is_empty()) else {
        problems.push(list.problem(format!("`{}` is no list of sources", list.shown()), POOL_FIX));
        return None;
    };
    let mut found: Vec<WeightedSource> = Vec::new();
    for item in items {
        let Some(weighted) = weighted(item, sources, problems) else { continue };
        if found.iter().any(|other| other.ip == weighted.ip) {
            problems.push(item.problem(
                format!("`{}` stands twice in this pool", weighted.ip),
                "write it once, with a weight: { ip = \"192.0.2.10\", weight = 2 }",
            ));
        }
        found.push(weighted);
    }
    Some(EgressPool { name: name?, sources: found })
}

fn weighted(item: &Node, sources: &BTreeSet<IpAddr>, problems: &mut Vec<Problem>) -> Option<WeightedSource> {
    let (at, weight) = if item.is_table() {
        problems.extend(item.unknown_keys(&["ip", "weight"]));
        let weight = item.get("weight").map_or(Some(1), |weight| {
            let number =
                weight.json().as_u64().and_then(|w| u32::try_from(w).ok()).filter(|w| (1..=1000).contains(w));
            let problem = || weight.problem(format!("`{}` is no weight", weight.shown()), WEIGHT_FIX);
            keep(number.ok_or_else(problem), problems)
        });
        (required(item, "ip", IP_FIX, problems)?, weight)
    } else {
        (item, Some(1))
    };
    let ip = keep(address(at), problems)?;
    if !sources.contains(&ip) {
        let fix = format!("add [[egress_source]] with ip = \"{ip}\" and the node that has this address");
        problems.push(at.problem(format!("there is no [[egress_source]] with ip `{ip}`"), fix));
    }
    Some(WeightedSource { ip, weight: weight? })
}

pub fn route(node: &Node, problems: &mut Vec<Problem>) -> Option<StaticRoute> {
    problems.extend(node.unknown_keys(&["domain", "host"]));
    let domain =
        required(node, "domain", "write the recipients' domain, as domain = \"partner.example\"", problems)
            .and_then(|at| {
                keep(at.parse("a domain", "write it as \"partner.example\"", parse_domain), problems)
            });
    let host = required(node, "host", HOST_FIX, problems)
        .and_then(|at| keep(at.parse("a host with a port", HOST_FIX, parse_host), problems));
    Some(StaticRoute { domain: domain?, host: host? })
}

/// `host:port` in its normal form; port 25 where there is none.
#[must_use]
pub fn parse_host(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(std::net::SocketAddr::new(ip, 25).to_string());
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return (socket.port() != 0).then(|| socket.to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)?),
        None => (text, 25),
    };
    let host = parse_domain(host)?;
    // Digits and dots alone are an address with a mistake, not a name.
    let is_name = host.as_str().bytes().any(|b| !b.is_ascii_digit() && b != b'.');
    is_name.then(|| format!("{host}:{port}"))
}

fn address(node: &Node) -> Result<IpAddr, Problem> {
    let parse = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let ip = node.parse("an IP address", IP_FIX, parse)?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(node.problem(format!("`{ip}` is no address that mail can leave from"), IP_FIX));
    }
    Ok(ip)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn required<'a>(node: &'a Node, key: &str, fix: &str, problems: &mut Vec<Problem>) -> Option<&'a Node> {
    let found = node.get(key);
    if found.is_none() {
        problems.push(node.missing(key, fix));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_port() {
        for (text, normal) in [
            ("MX.example:2525", "mx.example:2525"),
            ("mx.example", "mx.example:25"),
            ("192.0.2.1", "192.0.2.1:25"),
            ("[2001:db8::1]:26", "[2001:db8::1]:26"),
            ("2001:db8::1", "[2001:db8::1]:25"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Some(normal));
        }
        for bad in
            ["", ":25", "mx.example:0", "mx.example:port", "192.0.2.300:25", "a b:25", "mx.example:99999"]
        {
            assert_eq!(parse_host(bad), None, "{bad}");
        }
    }
}
