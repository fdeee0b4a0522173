//! Which hosts of a message DNS lists are asked about.

use std::net::IpAddr;

use schemas::Domain;

use crate::classifier::links::{self, WebAddress};
use crate::classifier::reading::Reading;
use crate::facts::Facts;
use crate::forwarded::is_public;

/// Hosts of one message.
const MAX_NAMES: usize = 20;
/// Of these, hosts of links.
const MAX_OF_LINKS: usize = 16;

/// A host, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub host: Host,
    pub place: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A registered domain, in A-labels.
    Domain(String),
    Address(IpAddr),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Domain(name) => f.write_str(name),
            Host::Address(ip) => ip.fmt(f),
        }
    }
}

/// The hosts of a message, each once, those that tell most first.
#[must_use]
pub fn of(facts: &Facts<'_>) -> Vec<Named> {
    let mut reading = Reading::of(facts);
    reading.read_parts(facts, |_| {});
    let mut names = Vec::new();
    let mut add = |host: Option<Host>, place, max| {
        let Some(host) = host else { return };
        if names.len() < max && names.iter().all(|named: &Named| named.host != host) {
            names.push(Named { host, place });
        }
    };
    for link in &reading.links {
        add(of_target(&link.target), "a link", MAX_OF_LINKS);
    }
    add(of_domain(&reading.from.host), "From", MAX_NAMES);
    add(reading.reply_to.and_then(|reply_to| of_domain(&reply_to.host)), "Reply-To", MAX_NAMES);
    for picture in &reading.pictures {
        add(of_target(picture), "a picture", MAX_NAMES);
    }
    names
}

fn of_target(target: &str) -> Option<Host> {
    let web = WebAddress::parse(target)?;
    match web.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => is_public(ip).then_some(Host::Address(ip.to_canonical())),
        Err(_) => of_domain(&web.host),
    }
}

fn of_domain(host: &str) -> Option<Host> {
    let domain = Domain::parse(host).ok()?;
    let registered = links::registered(domain.as_str());
    (domain.literal_ip().is_none() && registered.contains('.')).then(|| Host::Domain(registered.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;

    fn names(message: &str) -> Vec<String> {
        let envelope = envelope("a@b.example", &[]);
        let facts = Facts::of(&envelope, message.as_bytes());
        of(&facts).iter().map(|named| format!("{} in {}", named.host, named.place)).collect()
    }

    #[test]
    fn registered_domains_and_addresses_are_found_links_first() {
        let message = "From: a@mail.shop.example\r\nReply-To: x@other.example\r\nContent-Type: text/html\r\n\r\n\
            <img src=\"https://cdn.pictures.example/1.png\"><a href=\"https://www.bad.co.uk/x\">x</a>\
            <a href=\"http://BAD.co.uk\">y</a><a href=\"http://192.0.2.7/x\">z</a><a href=\"http://[2001:db8::7]:80/\">z</a>\
            <a href=\"http://127.0.0.2/\">own</a><a href=\"http://10.0.0.1/\">own</a><a href=\"https://m\u{fc}ller.example/\">i</a>\
            <a href=\"mailto:x@mailto.example\">m</a><a href=\"http://a_b-.example/\">broken</a>";
        assert_eq!(
            names(message),
            [
                "bad.co.uk in a link",
                "192.0.2.7 in a link",
                "2001:db8::7 in a link",
                "xn--mller-kva.example in a link",
                "shop.example in From",
                "other.example in Reply-To",
                "pictures.example in a picture",
            ]
        );
    }

    #[test]
    fn there_is_a_bound_and_the_sender_is_always_among_them() {
        let links: String = (0..100).map(|n| format!("https://d{n}.example/ ")).collect();
        let found = names(&format!("From: a@shop.example\r\n\r\n{links}"));
        assert_eq!(found.len(), MAX_OF_LINKS + 1);
        assert_eq!(found[MAX_OF_LINKS], "shop.example in From");
        let pictures: String =
            (0..100).map(|n| format!("<img src=\"https://p{n}.example/1.png\">")).collect();
        let html = format!("From: a@shop.example\r\nContent-Type: text/html\r\n\r\n{pictures}");
        assert_eq!(names(&html).len(), MAX_NAMES);
    }

    #[test]
    fn a_message_without_hosts_has_none() {
        assert!(names("Subject: x\r\n\r\nnothing http:// here").is_empty());
        assert!(names("From: root\r\n\r\n").is_empty());
    }
}
