//! Receivers with rules for bulk senders. Their list is read where it stands: it is short, and needs no memory of its own.

use memchr::memmem;

const RECEIVERS: &str = include_str!("receivers.tsv");

/// A large receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub name: &'static str,
    pub asks_one_click: bool,
}

/// The receiver at whose domain a recipient is.
#[must_use]
pub fn of(domain: &str) -> Option<Receiver> {
    let text = RECEIVERS.as_bytes();
    let is_end = |octet: Option<&u8>| octet.is_none_or(|octet| b"\t\r\n ".contains(octet));
    let mut places = memmem::find_iter(text, domain);
    let place = places.find(|at| {
        is_end(at.checked_sub(1).and_then(|at| text.get(at))) && is_end(text.get(at + domain.len()))
    })?;
    let line_at = memchr::memrchr(b'\n', &text[..place]).map_or(0, |at| at + 1);
    let mut columns = RECEIVERS[line_at..place].split('\t');
    let (name, rules) = (columns.next()?, columns.next()?);
    // Not in its last column, it is no domain.
    columns.next()?;
    Some(Receiver { name, asks_one_click: rules == "one-click" })
}

#[cfg(test)]
mod tests {
    use schemas::Domain;

    use super::*;

    #[test]
    fn domains_are_found_whole() {
        let names = |domain: &str| of(domain).map(|receiver| (receiver.name, receiver.asks_one_click));
        assert_eq!(names("gmail.com"), Some(("Google", true)));
        assert_eq!(names("yahoo.co.uk"), Some(("Yahoo", true)));
        assert_eq!(names("yahoo.com.ve"), Some(("Yahoo", true)));
        assert_eq!(names("yahoo.co.jp"), None, "another company");
        assert_eq!(names("verizon.net"), Some(("Yahoo", true)), "the last of its line");
        assert_eq!(names("outlook.com"), Some(("Microsoft", false)));
        assert_eq!(names("live.com.ar"), Some(("Microsoft", false)));
        for other in [
            "mail.com",
            "gmail.co",
            "yahoo.co",
            "mygmail.com",
            "Google",
            "one-click",
            "-",
            "#",
            "",
            "live.co",
            "com",
        ] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn the_list_is_well_formed() {
        let lines = RECEIVERS.lines().filter(|line| !line.starts_with('#'));
        let mut domains: Vec<&str> = Vec::new();
        for line in lines {
            let [name, rules, list]: [&str; 3] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            assert!(!name.is_empty() && ["one-click", "-"].contains(&rules), "{line}");
            for domain in list.split(' ') {
                assert_eq!(Domain::parse(domain).unwrap().as_str(), domain);
                assert_eq!(of(domain).unwrap().name, name, "{domain}");
                domains.push(domain);
            }
        }
        let all = domains.len();
        domains.sort_unstable();
        domains.dedup();
        assert_eq!(domains.len(), all, "one stands there twice");
    }
}
