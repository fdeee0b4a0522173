//! What an answer of a DNS list means (RFC 5782).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::Kind;
use crate::outside::dns::Answer;
use crate::outside::names::Host;

/// The name that is looked up for `host`, without the list's zone; `None` when a list of that kind has nothing to say of it.
pub(super) fn question(kind: Kind, host: &Host) -> Option<String> {
    match (kind, host) {
        (Kind::Domain, Host::Domain(name)) => Some(name.clone()),
        (Kind::Ip, Host::Address(ip)) => Some(reversed(*ip)),
        _ => None,
    }
}

/// RFC 5782, 2.1 and 2.4: octets, or nibbles, from the last to the first.
pub(super) fn reversed(ip: IpAddr) -> String {
    let parts: Vec<String> = match ip {
        IpAddr::V4(ip) => ip.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    parts.join(".")
}

/// The addresses of an answer that count: nothing but `codes`, whatever else a resolver or an operator of the list may put
/// there.
pub(super) fn counted(codes: &[Ipv4Net], answer: &Answer) -> Vec<Ipv4Addr> {
    let Answer::Addresses(found) = answer else { return Vec::new() };
    found
        .iter()
        .copied()
        .filter(|ip| says_something(*ip) && codes.iter().any(|code| code.contains(ip)))
        .collect()
}

/// Whether the list says with it that it does not answer us: over quota, a resolver that it does not serve, a wrong name.
pub(super) fn refuses(answer: &Answer) -> bool {
    matches!(answer, Answer::Addresses(found) if found.iter().any(|ip| is_error(*ip)))
}

/// An answer of a list is in 127/8; whatever else comes is by somebody who makes up answers for names that do not exist.
fn says_something(ip: Ipv4Addr) -> bool {
    ip.is_loopback() && !is_error(ip)
}

fn is_error(ip: Ipv4Addr) -> bool {
    ip.octets()[..3] == [127, 255, 255]
}

/// Whether a list is to be believed, by what it says of its two test points (RFC 5782, 5): one it has to list, one it must
/// not. `None`: it did not answer, so nothing is known that was not before.
pub(super) fn believed(listed: &Answer, not_listed: &Answer) -> Option<Result<(), &'static str>> {
    let (Answer::Addresses(listed_as), Answer::Addresses(not_listed_as)) = (listed, not_listed) else {
        return None;
    };
    Some(if refuses(listed) || refuses(not_listed) {
        Err("it refuses to answer: the key, the quota, or a resolver that it does not serve")
    } else if !not_listed_as.is_empty() {
        Err("it lists what no list does: everything")
    } else if !listed_as.iter().any(|ip| says_something(*ip)) {
        Err("it does not list its test point: it is gone, or its name is wrong")
    } else {
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str]) -> Answer {
        Answer::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect())
    }

    fn codes(codes: &[&str]) -> Vec<Ipv4Net> {
        codes.iter().map(|code| code.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_looked_up_fits_the_list() {
        let domain = Host::Domain("bad.example".into());
        let v4 = Host::Address("192.0.2.7".parse().unwrap());
        let v6 = Host::Address("2001:db8:1:2:3:4:567:89ab".parse().unwrap());
        assert_eq!(question(Kind::Domain, &domain).as_deref(), Some("bad.example"));
        assert_eq!(question(Kind::Ip, &v4).as_deref(), Some("7.2.0.192"));
        // The example of RFC 5782, 2.4.
        let nibbles = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2";
        assert_eq!(question(Kind::Ip, &v6).as_deref(), Some(nibbles));
        assert_eq!(question(Kind::Ip, &domain), None);
        assert_eq!(question(Kind::Domain, &v4), None);
    }

    #[test]
    fn only_configured_codes_count() {
        let of = |answer: &Answer| {
            let found = counted(&codes(&["127.0.1.2/32", "127.0.2.0/24", "127.255.0.0/16"]), answer);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (addresses, expected) in [
            (&["127.0.1.2"][..], "127.0.1.2"),
            (&["127.0.2.9", "127.0.1.2", "127.0.3.1"], "127.0.2.9 127.0.1.2"),
            (&["127.0.1.3"], ""),
            (&["127.255.255.254"], ""),
            (&["127.255.254.1"], "127.255.254.1"),
            (&[], ""),
        ] {
            assert_eq!(of(&answer(addresses)), expected, "{addresses:?}");
        }
        assert_eq!(of(&Answer::Failed), "");
        let everything = codes(&["0.0.0.0/0"]);
        assert!(counted(&everything, &answer(&["192.0.2.1", "10.0.0.1"])).is_empty(), "somebody makes it up");
    }

    #[test]
    fn a_list_is_believed_by_its_test_points() {
        let (listed, nothing) = (answer(&["127.0.0.2"]), answer(&[]));
        assert_eq!(believed(&listed, &nothing), Some(Ok(())));
        for (test, other, why) in [
            (&listed, &listed, "everything"),
            (&answer(&["192.0.2.1"]), &answer(&["192.0.2.1"]), "everything"),
            (&nothing, &nothing, "test point"),
            (&answer(&["192.0.2.1"]), &nothing, "test point"),
            (&answer(&["127.255.255.254"]), &answer(&["127.255.255.254"]), "refuses"),
            (&listed, &answer(&["127.255.255.252"]), "refuses"),
        ] {
            let said = believed(test, other).unwrap().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(believed(&Answer::Failed, &nothing), None);
        assert_eq!(believed(&listed, &Answer::Failed), None);
    }
}
