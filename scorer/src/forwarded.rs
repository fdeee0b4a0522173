//! Whether a message is one that an account only passes on: mail from outside under its own reverse-path or under SRS.
//! Spam among it is the fault of nobody here, so it locks nobody and is reported to nobody.

use std::net::IpAddr;

use schemas::{Domain, ReversePath};

use crate::address_list::AddressList;
use crate::facts::Facts;

/// Received fields looked at.
const MAX_HOPS: usize = 20;

/// `identity_source`: where the identity was found; who is named by a field of its own server sends, and does not forward.
/// `from_domains`: those that the user may send as.
#[must_use]
pub fn is_forwarded(facts: &Facts<'_>, identity_source: &str, from_domains: &AddressList) -> bool {
    // cPanel names the owner of the forwarder.
    let via = facts.header.last("x-get-message-sender-via");
    if via.is_some_and(|field| field.text().contains("redirect/forwarder owner ")) {
        return true;
    }
    let Some(reverse_path) = facts.envelope.reverse_path.mailbox() else { return false };
    if is_srs(reverse_path.local_part()) {
        return true;
    }
    let ours =
        is_within(reverse_path.domain(), &facts.envelope.domain) || from_domains.contains(reverse_path);
    identity_source == "envelope"
        && !ours
        && facts.header.all("received").take(MAX_HOPS).any(|field| is_from_outside(&field.text()))
}

/// Whether `is_forwarded` would say so of a message under another list of From domains, where it said `was` under one that
/// `had_domains`; as far as that can be told.
#[must_use]
pub fn is_forwarded_still(
    was: bool,
    had_domains: bool,
    reverse_path: &ReversePath,
    identity_source: &str,
    from_domains: &AddressList,
) -> Option<bool> {
    let Some(reverse_path) = reverse_path.mailbox() else { return Some(was) };
    match (was, from_domains.contains(reverse_path)) {
        (true, false) | (false, true) => Some(was),
        (true, true) => is_srs(reverse_path.local_part()).then_some(true),
        (false, false) => (identity_source != "envelope" || !had_domains).then_some(false),
    }
}

/// Sender Rewriting Scheme: `SRS0=`, `SRS1=`, with `-` or `+` as separator, too.
fn is_srs(local: &str) -> bool {
    let tag = local.get(..5).unwrap_or_default().to_ascii_lowercase();
    ["srs0", "srs1"]
        .iter()
        .any(|name| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with(['=', '-', '+'])))
}

fn is_within(domain: &Domain, parent: &Domain) -> bool {
    let rest = domain.as_str().strip_suffix(parent.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A hop over the internet whose client did not authenticate (RFC 3848: the protocol has no `A` at its end).
fn is_from_outside(field: &str) -> bool {
    let received = field.split_whitespace().collect::<Vec<_>>().join(" ");
    let (from, rest) = received.split_once(" by ").unwrap_or((&received, ""));
    let protocol =
        rest.split(" with ").nth(1).and_then(|rest| rest.split([' ', ';']).next()).unwrap_or_default();
    let is_smtp = protocol.to_ascii_uppercase().contains("SMTP");
    let authenticated = protocol.ends_with(['a', 'A']) || received.contains("(Authenticated sender: ");
    is_smtp
        && !authenticated
        && from.split('[').skip(1).any(|rest| rest.split(']').next().is_some_and(is_public_text))
}

fn is_public_text(text: &str) -> bool {
    let text = text.strip_prefix("IPv6:").unwrap_or(text);
    text.parse().is_ok_and(is_public)
}

/// Whether an address may be one of the internet.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::envelope;

    const OUTSIDE: &str = "Received: from mx.ext.example (mx.ext.example [203.0.113.5])\r\n\tby shop.example (Postfix) with ESMTPS id 1\r\n";

    #[test]
    fn only_what_came_from_outside_under_a_foreign_path_is_forwarded() {
        let exim = "Received: from [203.0.113.5] (helo=x) by shop.example with esmtps (TLS) id 1\r\n";
        let authenticated = OUTSIDE.replace("ESMTPS", "ESMTPSA");
        let inside = OUTSIDE.replace("203.0.113.5", "10.1.2.3");
        let cpanel =
            "X-Get-Message-Sender-Via: h: redirect/forwarder owner u@shop.example -> o@x.example\r\n";
        for (fields, path, source, expected) in [
            (OUTSIDE, "a@ext.example", "envelope", true),
            (exim, "a@ext.example", "envelope", true),
            (OUTSIDE, "a@shop.example", "envelope", false),
            (OUTSIDE, "a@mail.shop.example", "envelope", false),
            (OUTSIDE, "a@ext.example", "header:X-AuthUser", false),
            (authenticated.as_str(), "a@ext.example", "envelope", false),
            (inside.as_str(), "a@ext.example", "envelope", false),
            ("", "a@ext.example", "envelope", false),
            ("", "SRS0=hhh=tt=ext.example=a@shop.example", "envelope", true),
            ("", "srs1+hhh=f.example==hhh=tt=e.example=a@shop.example", "user", true),
            (cpanel, "a@ext.example", "header:X-Get-Message-Sender-Via", true),
        ] {
            let mut envelope = envelope(path, &["r@elsewhere.example"]);
            envelope.domain = Domain::parse("shop.example").unwrap();
            let message = format!("{fields}From: a@ext.example\r\n\r\n");
            let facts = Facts::of(&envelope, message.as_bytes());
            let found = is_forwarded(&facts, source, &AddressList::of(&[]));
            assert_eq!(found, expected, "{path} {source} {fields}");
        }
    }

    #[test]
    fn a_domain_that_the_user_may_send_as_is_not_foreign() {
        let envelope = envelope("a@ext.example", &["r@elsewhere.example"]);
        let facts = Facts::of(&envelope, OUTSIDE.as_bytes());
        assert!(!is_forwarded(&facts, "envelope", &AddressList::of(&["ext.example".to_owned()])));
    }
}
