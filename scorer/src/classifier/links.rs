//! Where a link leads, taken apart as far as it says something.

/// A web address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress<'a> {
    pub is_secure: bool,
    pub has_user: bool,
    /// Lower case.
    pub host: String,
    pub port: Option<&'a str>,
    pub path: &'a str,
    pub query: &'a str,
    pub fragment: &'a str,
}

impl<'a> WebAddress<'a> {
    /// Reads a target as browsers do; `None` when it leads to no web page.
    #[must_use]
    pub fn parse(target: &'a str) -> Option<Self> {
        let target = target.trim();
        let (scheme, rest) = match target.find(':') {
            Some(at) => (&target[..at], &target[at + 1..]),
            // Without a scheme, but to a host all the same.
            None => ("http", target),
        };
        let is_secure = scheme.eq_ignore_ascii_case("https");
        if !is_secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let had_slashes = rest.starts_with(['/', '\\']);
        let rest = rest.trim_start_matches(['/', '\\']);
        if !had_slashes && !rest.starts_with("www.") {
            return None;
        }
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let (has_user, host_port) = match authority.rfind('@') {
            Some(at) => (true, &authority[at + 1..]),
            None => (false, authority),
        };
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
            _ => (host_port, None),
        };
        let host = host.trim_end_matches('.').to_lowercase();
        if host.is_empty() || host.len() > 255 || !host.contains(['.', ':']) {
            return None;
        }
        let (after, fragment) = after.split_once('#').unwrap_or((after, ""));
        let (path, query) = after.split_once('?').unwrap_or((after, ""));
        Some(WebAddress { is_secure, has_user, host, port, path, query, fragment })
    }

    #[must_use]
    pub fn is_ip(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<std::net::IpAddr>().is_ok()
    }
}

/// The registered domain of a host: the part that somebody owns. The host itself when there is none.
#[must_use]
pub fn registered(host: &str) -> &str {
    psl::domain_str(host).unwrap_or(host)
}

/// The name that its owner chose: `paypal` of `www.paypal.co.uk`.
#[must_use]
pub fn chosen_name(host: &str) -> &str {
    let registered = registered(host);
    registered.split_once('.').map_or(registered, |(name, _)| name)
}

/// What stands behind the name that its owner chose: `co.uk`.
#[must_use]
pub fn suffix(host: &str) -> &str {
    psl::suffix_str(host).unwrap_or("")
}

/// Addresses in plain text.
pub fn in_text(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = memchr::memmem::find(rest.as_bytes(), b"://").map(|at| (at, true));
            let (at, _) = at?;
            let before = &rest[..at];
            let scheme = ["https", "http"].into_iter().find(|s| {
                before.len() >= s.len()
                    && before.is_char_boundary(before.len() - s.len())
                    && before[before.len() - s.len()..].eq_ignore_ascii_case(s)
            });
            let Some(scheme) = scheme else {
                rest = &rest[at + 3..];
                continue;
            };
            let found = &rest[at - scheme.len()..];
            let end = found
                .find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | ')' | ']' | '}'))
                .unwrap_or(found.len());
            let (address, after) = found.split_at(end);
            rest = after;
            return Some(address.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'']));
        }
    })
    .take(max)
}

/// How a name looks: chosen by a person, or by a machine.
#[must_use]
pub fn shape(name: &str) -> &'static str {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let hyphens = name.bytes().filter(|b| *b == b'-').count();
    let vowels = name.bytes().filter(|b| b"aeiouy".contains(&b.to_ascii_lowercase())).count();
    let letters = name.bytes().filter(u8::is_ascii_alphabetic).count();
    if name.starts_with("xn--") {
        "in another alphabet"
    } else if digits > 0 && digits * 3 >= name.len() {
        "mostly digits"
    } else if hyphens >= 2 {
        "of several words"
    } else if digits > 0 {
        "with digits"
    } else if letters >= 6 && vowels * 6 < letters {
        "without vowels"
    } else if hyphens == 1 {
        "of two words"
    } else if name.len() > 18 {
        "very long"
    } else if name.len() <= 4 {
        "short"
    } else {
        "plain"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let web = WebAddress::parse("HTTPS://user@WWW.Example.CO.UK:8443/a/b?c=d#e").unwrap();
        assert!(web.is_secure && web.has_user);
        assert_eq!((web.host.as_str(), web.port), ("www.example.co.uk", Some("8443")));
        assert_eq!((web.path, web.query, web.fragment), ("/a/b", "c=d", "e"));
        assert_eq!(registered(&web.host), "example.co.uk");
        assert_eq!((chosen_name(&web.host), suffix(&web.host)), ("example", "co.uk"));
        assert!(WebAddress::parse("http://192.0.2.1/x").unwrap().is_ip());
        assert!(
            WebAddress::parse("//cdn.example/x").is_some() && WebAddress::parse("www.a.example").is_some()
        );
        for none in ["mailto:a@b.example", "javascript:x", "#top", "page.html", "http://", "tel:123", ""] {
            assert!(WebAddress::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn addresses_in_text_are_found() {
        let text = "see http://a.example/x. Or (https://b.example) and éhttps://c.example/ü ftp://d.example";
        assert_eq!(
            in_text(text, 10).collect::<Vec<_>>(),
            ["http://a.example/x", "https://b.example", "https://c.example/ü"]
        );
    }

    #[test]
    fn names_have_shapes() {
        for (name, expect) in [
            ("paypal", "plain"),
            ("secure-login-help", "of several words"),
            ("xkqzvbnr", "without vowels"),
            ("a1b2c3", "mostly digits"),
            ("xn--pypal-4ve", "in another alphabet"),
        ] {
            assert_eq!(shape(name), expect, "{name}");
        }
    }
}
