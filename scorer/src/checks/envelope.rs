//! Checks of the envelope and the client.

use schemas::{Domain, Mailbox};

use crate::facts::Facts;
use crate::policy::Policy;

/// A bounce has one recipient: the sender of what bounced (RFC 5321 4.5.5).
pub fn null_path_many_recipients(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let envelope = facts.envelope;
    (envelope.reverse_path.is_null() && envelope.recipients.len() > 1)
        .then(|| format!("{} recipients", envelope.recipients.len()))
}

/// Forward-paths that make some mail server route, run or write something: what Exim's default configuration refuses
/// for addresses elsewhere, and a pipe in the reverse-path.
pub fn restricted_characters(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let recipients = facts.envelope.recipients.iter().map(|r| &r.forward_path);
    if let Some(bad) = recipients.into_iter().find(|mailbox| is_restricted(mailbox)) {
        return Some(format!("recipient {bad}"));
    }
    let sender = facts.envelope.reverse_path.mailbox()?;
    unquoted(sender).starts_with('|').then(|| format!("reverse-path {sender}"))
}

fn is_restricted(mailbox: &Mailbox) -> bool {
    let local = unquoted(mailbox);
    local.starts_with(['.', '/', '|']) || local.contains(['@', '%', '!']) || local.contains("/../")
}

fn unquoted(mailbox: &Mailbox) -> &str {
    mailbox.local_part().trim_matches('"')
}

/// The argument of EHLO is a host name or an address literal (RFC 5321 4.1.1.1); a bare address is neither.
pub fn invalid_helo(facts: &Facts<'_>, _: &Policy) -> Option<String> {
    let helo = facts.envelope.client.helo.as_str();
    let valid = Domain::parse(helo).is_ok() && helo.parse::<std::net::IpAddr>().is_err();
    (!valid).then(|| format!("EHLO {helo}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{envelope, policy};

    #[test]
    fn addresses_that_route_or_run_are_found() {
        let policy = policy("{}");
        let check = |sender: &str, recipient: &str| {
            let envelope = envelope(sender, &["fine@b.example", recipient]);
            restricted_characters(&Facts::of(&envelope, b""), &policy).is_some()
        };
        for bad in
            ["a%b@c.example", "a!b@c.example", "/etc/x@c.example", "|run@c.example", "\"a/../b\"@c.example"]
        {
            assert!(check("s@a.example", bad), "{bad}");
        }
        assert!(check("s@a.example", "\"a@b\"@c.example") && check("|x@a.example", "b@c.example"));
        for good in ["a.b+c=d@c.example", "a/b@c.example", "o'neil&co@c.example", "a|b@c.example"] {
            assert!(!check("s@a.example", good), "{good}");
        }
    }

    #[test]
    fn a_bounce_has_one_recipient() {
        let policy = policy("{}");
        let check = |sender: &str, recipients: &[&str]| {
            null_path_many_recipients(&Facts::of(&envelope(sender, recipients), b""), &policy).is_some()
        };
        assert!(check("", &["a@b.example", "c@b.example"]));
        assert!(!check("", &["a@b.example"]) && !check("x@y.example", &["a@b.example", "c@b.example"]));
    }

    #[test]
    fn helo_is_a_host_or_a_literal() {
        let policy = policy("{}");
        let check = |helo: &str| {
            let mut envelope = envelope("a@b.example", &[]);
            envelope.client.helo = helo.into();
            invalid_helo(&Facts::of(&envelope, b""), &policy).is_none()
        };
        assert!(
            check("mail.example")
                && check("localhost")
                && check("[192.0.2.1]")
                && check("[IPv6:2001:db8::1]")
        );
        assert!(!check("") && !check("192.0.2.1") && !check("a b") && !check("-x") && !check("[nonsense]"));
    }
}
