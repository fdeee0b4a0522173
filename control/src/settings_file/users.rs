//! `[defaults]`, `[[domain]]` and `[[outgoing_user]]`.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use schemas::settings::{DomainSettings, OutgoingUser, UserAuth, UserSettings};
use schemas::{Domain, Mailbox};

use super::node::Node;
use super::problem::{Problem, did_you_mean};
use super::{Names, Passwords, levels};
use crate::password;

const RANGE_FIX: &str =
    "write an address or a range, as \"192.0.2.1\", \"192.0.2.0/28\" or \"2001:db8::/64\"";
const LOGIN_FIX: &str = "write the domain itself or an address in it, as \"shop@customer.example\"";
const HASH_FIX: &str =
    "write an argon2id hash, as from `argon2 SALT -id -e`, or the password itself as password = \"...\"";
/// A range that holds more than this would let in half the Internet: shortest prefixes, IPv4 and IPv6.
const SHORTEST_PREFIX: (u8, u8) = (8, 16);

/// The password of a user, as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    Plain(String),
    Hash(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(<secret>)")
    }
}

pub fn domain(node: &Node, problems: &mut Vec<Problem>) -> Option<DomainSettings> {
    let settings = levels::read(node, &["name", "abuse_address"], problems);
    let abuse_address = node.get("abuse_address").and_then(|at| {
        let parse = |text: &str| Mailbox::parse(text).ok();
        keep(at.parse("an address", "write it as \"abuse@hoster.example\"", parse), problems)
    });
    let Some(name) = node.get("name") else {
        problems.push(node.missing("name", "write the domain, as name = \"customer.example\""));
        return None;
    };
    let name = keep(name.parse("a domain", "write it as \"customer.example\"", parse_domain), problems)?;
    Some(DomainSettings { name, abuse_address, settings })
}

/// A user, with the password apart when it has one: it is hashed only when it is needed.
pub fn outgoing_user(
    node: &Node,
    domains: &Names,
    passwords: Passwords,
    problems: &mut Vec<Problem>,
) -> Option<(OutgoingUser, Option<Password>)> {
    let own = ["domain", "ip", "login", "password", "password_hash"];
    let settings = levels::read(node, &own, problems);
    let domain = user_domain(node, domains, problems);
    match (node.get("ip"), node.get("login")) {
        (Some(ip), None) => ip_user(node, ip, domain, settings, problems).map(|user| (user, None)),
        (None, Some(login)) => password_user(node, login, domain, settings, passwords, problems),
        (Some(ip), Some(_)) => {
            problems.push(ip.problem(
                "stands beside login",
                "make two users of it: one with ip, one with login and password",
            ));
            None
        }
        (None, None) => {
            problems.push(
                node.missing("ip or login", "say who this is: ip = \"192.0.2.0/28\", or login and password"),
            );
            None
        }
    }
}

fn user_domain(node: &Node, domains: &Names, problems: &mut Vec<Problem>) -> Option<Domain> {
    let Some(at) = node.get("domain") else {
        problems
            .push(node.missing("domain", "write the name of a [[domain]], as domain = \"customer.example\""));
        return None;
    };
    let domain = keep(at.parse("a domain", "write it as \"customer.example\"", parse_domain), problems)?;
    if !domains.contains(domain.as_str()) {
        let fix = did_you_mean(domain.as_str(), domains.iter(), || {
            format!("add [[domain]] with name = \"{domain}\"")
        });
        problems.push(at.problem(format!("there is no [[domain]] `{domain}`"), fix));
    }
    Some(domain)
}

fn ip_user(
    node: &Node,
    ip: &Node,
    domain: Option<Domain>,
    settings: UserSettings,
    problems: &mut Vec<Problem>,
) -> Option<OutgoingUser> {
    for key in ["password", "password_hash"] {
        if let Some(at) = node.get(key) {
            problems.push(
                at.problem("is not for a user with ip", "remove it: the address is what authenticates"),
            );
        }
    }
    let range = keep(range(ip), problems);
    Some(OutgoingUser { domain: domain?, auth: UserAuth::Ip { range: range? }, settings })
}

/// A range; IPv4-mapped IPv6 becomes IPv4, which is what clients are looked up by.
fn range(node: &Node) -> Result<IpNet, Problem> {
    let parse =
        |text: &str| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let range = unmapped(node.parse("an IP address or range", RANGE_FIX, parse)?);
    if range.trunc() != range {
        return Err(node.problem(
            format!("`{}` has bits set behind its prefix", node.shown()),
            format!(
                "write \"{}\" for the whole range, or \"{}\" for the one address",
                range.trunc(),
                range.addr()
            ),
        ));
    }
    let shortest = if range.addr().is_ipv4() { SHORTEST_PREFIX.0 } else { SHORTEST_PREFIX.1 };
    if range.prefix_len() < shortest {
        return Err(node.problem(
            format!("`{}` is so large that this would be an open relay", node.shown()),
            format!("list the ranges that are yours; the shortest prefix allowed is /{shortest}"),
        ));
    }
    Ok(range)
}

fn unmapped(range: IpNet) -> IpNet {
    if let IpNet::V6(v6) = range
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(net) = Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return IpNet::V4(net);
    }
    range
}

fn password_user(
    node: &Node,
    login: &Node,
    domain: Option<Domain>,
    settings: UserSettings,
    passwords: Passwords,
    problems: &mut Vec<Problem>,
) -> Option<(OutgoingUser, Option<Password>)> {
    let name = login.text().map(str::to_lowercase);
    let parsed = name.as_deref().and_then(|name| match Mailbox::parse(name) {
        Ok(mailbox) => Some((mailbox.to_string(), mailbox.domain().clone())),
        Err(_) => Domain::parse(name).ok().map(|domain| (domain.to_string(), domain)),
    });
    if parsed.is_none() {
        problems.push(
            login.problem(format!("`{}` is neither a domain nor an address", login.shown()), LOGIN_FIX),
        );
    }
    if let (Some((_, of)), Some(domain)) = (&parsed, &domain)
        && of != domain
    {
        problems.push(login.problem(format!("`{}` is not in the domain {domain}", login.shown()), LOGIN_FIX));
    }
    let password = keep(password(node, passwords), problems);
    let auth = UserAuth::Password { login: parsed?.0, password_hash: String::new() };
    Some((OutgoingUser { domain: domain?, auth, settings }, Some(password?)))
}

fn password(node: &Node, passwords: Passwords) -> Result<Password, Problem> {
    match (node.get("password"), node.get("password_hash")) {
        (Some(plain), None) => {
            let good = |text: &str| {
                !text.is_empty()
                    && text.len() <= password::MAX_PASSWORD_BYTES
                    && !text.contains(['\0', '\r', '\n'])
            };
            let what = "a password (a text of 1 to 1024 bytes on one line)";
            plain.parse(what, "write it in double quotes", |text| {
                good(text).then(|| Password::Plain(text.into()))
            })
        }
        (None, Some(hash)) => {
            let text = hash.text().unwrap_or_default();
            password::check_hash(text).map_err(|reason| hash.problem(reason, HASH_FIX))?;
            Ok(Password::Hash(text.into()))
        }
        (Some(plain), Some(_)) => Err(plain.problem("stands beside password_hash", "keep one of the two")),
        (None, None) if passwords == Passwords::MayLack => Ok(Password::Hash(String::new())),
        (None, None) => {
            Err(node.missing("password", "write password = \"...\" or password_hash = \"$argon2id$...\""))
        }
    }
}

pub fn parse_domain(text: &str) -> Option<Domain> {
    Domain::parse(text).ok().filter(|domain| domain.literal_ip().is_none())
}

/// The value, or its problem into the list.
pub fn keep<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}
