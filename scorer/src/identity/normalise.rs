//! One name for one sender, whatever a mail system wrapped it in.

use schemas::{Envelope, Mailbox};

/// The normalised reverse-path of an envelope; `<>` for the null reverse-path.
#[must_use]
pub fn reverse_path(envelope: &Envelope) -> String {
    match envelope.reverse_path.mailbox() {
        None => "<>".into(),
        Some(mailbox) => mailbox_name(mailbox, envelope.recipients.iter().map(|r| &r.forward_path)),
    }
}

/// A mailbox without what SRS, BATV, VERP and subaddressing put around it, in lower case.
#[must_use]
pub fn mailbox_name<'a>(mailbox: &Mailbox, recipients: impl Iterator<Item = &'a Mailbox>) -> String {
    let local = mailbox.local_part().to_lowercase();
    let domain = mailbox.domain().as_str();
    let local = batv(&local);
    if let Some(original) = srs(local) {
        return original;
    }
    let local = verp(local, recipients);
    format!("{}@{domain}", subaddress(local))
}

/// An account as a panel or MTA writes it: `user@dom` and `user+dom` (cPanel) are one, in lower case; angle brackets and
/// quotes around it are cut. Anything else is taken as it is.
#[must_use]
pub fn account(text: &str) -> String {
    let text = text.trim().trim_matches(|c| matches!(c, '<' | '>' | '"')).trim();
    if text.contains('@') && !text.contains(char::is_whitespace) {
        return text.to_lowercase();
    }
    match text.split_once('+') {
        Some((user, domain)) if !user.is_empty() && is_domain(domain) => {
            format!("{user}@{domain}").to_lowercase()
        }
        _ => text.to_owned(),
    }
}

fn is_domain(text: &str) -> bool {
    text.contains('.') && schemas::Domain::parse(text).is_ok()
}

/// BATV: `prvs=tag=user` (draft-levine-smtp-batv), `prvs=user/tag` (an older form), `btv1==tag==user`.
fn batv(local: &str) -> &str {
    if let Some(rest) = local.strip_prefix("btv1==") {
        return rest.split_once("==").map_or(local, |(_, user)| user);
    }
    let Some((scheme, rest)) = local.split_once('=') else { return local };
    if !(scheme == "prvs" || scheme == "msprvs1") {
        return local;
    }
    match (rest.split_once('='), rest.split_once('/')) {
        (Some((_, user)), _) | (None, Some((user, _))) if !user.is_empty() => user,
        _ => local,
    }
}

/// SRS: `SRS0=hash=time=domain=user`, `SRS1=hash=host==hash=time=domain=user`; the separator after the tag may be `=`,
/// `-` or `+`. The original sender.
fn srs(local: &str) -> Option<String> {
    let rest = local.strip_prefix("srs0").or_else(|| local.strip_prefix("srs1"))?;
    let rest = rest.strip_prefix(['=', '-', '+'])?;
    let srs0 = if local.starts_with("srs1") {
        let (_, inner) = rest.split_once('=')?.1.split_once('=')?;
        inner.strip_prefix(['=', '-', '+'])?
    } else {
        rest
    };
    let mut parts = srs0.splitn(4, '=');
    let (_hash, _time, domain, user) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (is_domain(domain) && !user.is_empty()).then(|| format!("{}@{domain}", subaddress(batv(user))))
}

/// VERP: the recipient, or a number per message, within the sender. `list-bounces+user=dom.example`,
/// `list-owner-user=dom.example`, `bounces-278193-list`, `bounce+12ab.34`.
fn verp<'l, 'a>(local: &'l str, recipients: impl Iterator<Item = &'a Mailbox>) -> &'l str {
    if local.contains('=') {
        for recipient in recipients.take(20) {
            let within = format!("{}={}", recipient.local_part().to_lowercase(), recipient.domain());
            if let Some(at) = local.find(&within).filter(|at| *at > 1) {
                return local[..at].trim_end_matches(['+', '-', '_', '=', '.']);
            }
        }
        if let Some((before, domain)) = local.rsplit_once('=')
            && is_domain(domain)
            && let Some(at) = before.find('+').or_else(|| before.rfind('-')).filter(|at| *at > 0)
        {
            return &before[..at];
        }
    }
    bounce_number(local)
}

/// Cuts what follows `bounce`, `bounces`, `return` or `verp` from the first piece with a digit on.
fn bounce_number(local: &str) -> &str {
    let Some(first_end) = local.find(['+', '-', '_', '=', '.']) else { return local };
    let is_marker = |piece: &str| matches!(piece, "bounce" | "bounces" | "return" | "returns" | "verp");
    let mut marked = is_marker(&local[..first_end]);
    let mut at = first_end;
    while at < local.len() {
        let piece_at = at + 1;
        let end = local[piece_at..].find(['+', '-', '_', '=', '.']).map_or(local.len(), |n| piece_at + n);
        let piece = &local[piece_at..end];
        if marked && piece.bytes().any(|b| b.is_ascii_digit()) {
            return &local[..at];
        }
        marked |= is_marker(piece);
        at = end;
    }
    local
}

/// `user+detail` is the mailbox `user` (RFC 5233).
fn subaddress(local: &str) -> &str {
    match local.split_once('+') {
        Some((user, _)) if !user.is_empty() && !local.starts_with('"') => user,
        _ => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wrapped_senders_are_unwrapped() {
        let recipient = Mailbox::parse("First-Last@dom.example").unwrap();
        for (sender, name) in [
            ("User@Dom.example", "user@dom.example"),
            ("user+tag@dom.example", "user@dom.example"),
            ("SRS0=HHH=TT=orig.example=alice@fwd.example", "alice@orig.example"),
            ("SRS0+HHH=TT=orig.example=alice@fwd.example", "alice@orig.example"),
            ("srs0-h=t=orig.example=prvs=tag=bob@fwd.example", "bob@orig.example"),
            ("SRS1=HHH=fwd.example==HHH=TT=orig.example=alice@fwd2.example", "alice@orig.example"),
            ("SRS0=broken@fwd.example", "srs0=broken@fwd.example"),
            ("prvs=3123456abc=user@dom.example", "user@dom.example"),
            ("prvs=user/3123456abc@dom.example", "user@dom.example"),
            ("btv1==123==user@dom.example", "user@dom.example"),
            ("list-bounces+someone=dom.example@lists.example", "list-bounces@lists.example"),
            ("list-owner-someone=dom.example@lists.example", "list-owner@lists.example"),
            ("list-owner-first-last=dom.example@lists.example", "list-owner@lists.example"),
            ("bounces+12345-ab12-first-last=dom.example@em.example", "bounces@em.example"),
            ("bounces-278193-lists@lists.example", "bounces@lists.example"),
            ("news-bounce-9981.77@lists.example", "news-bounce@lists.example"),
            ("bounce-me@dom.example", "bounce-me@dom.example"),
            ("sales2024@dom.example", "sales2024@dom.example"),
            ("a=b@dom.example", "a=b@dom.example"),
        ] {
            let mailbox = Mailbox::parse(sender).unwrap();
            assert_eq!(mailbox_name(&mailbox, std::iter::once(&recipient)), name, "{sender}");
        }
    }

    #[test]
    fn accounts_have_one_name() {
        for (text, name) in [
            ("User@Dom.example", "user@dom.example"),
            ("davidmain+lechnology.example", "davidmain@lechnology.example"),
            ("<u@d.example>", "u@d.example"),
            ("Marketin", "Marketin"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(account(text), name);
        }
    }

    proptest! {
        #[test]
        fn any_mailbox_has_a_name(local in "(srs[01]|prvs|bounce|btv1)?[=+/a-z0-9.é-]{1,40}") {
            if let Ok(mailbox) = Mailbox::parse(&format!("{local}@dom.example")) {
                prop_assert!(mailbox_name(&mailbox, std::iter::once(&mailbox)).contains('@'));
            }
            let _ = account(&local);
        }
    }
}
