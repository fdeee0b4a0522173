//! The `auto` rule: the fields that cPanel, DirectAdmin, Plesk and Postfix add, as they really look.
//!
//! | source | field | looks like |
//! |---|---|---|
//! | set up by hand (Exim) | `X-AuthUser` | `user@dom`, `user+dom` |
//! | cPanel | `X-Authenticated-Sender` | `host: user@dom`; `host: account` for local mail |
//! | cPanel | `X-Get-Message-Sender-Via` | `host: authenticated_id: user+dom/only user confirmed/virtual account not confirmed`, `host: acl_c_authenticated_local_user: account/...`, `host: sender_ident via received_protocol == local: account/primary_hostname/system user`, `host: redirect/forwarder owner user@dom -> other@dom` |
//! | DirectAdmin | `X-Authenticated-Id` | `user@dom`, `account` |
//! | large cPanel hosters | `X-Source-Auth` | `user@dom` |
//! | PHP | `X-PHP-Originating-Script` | `1001:mailer.php`, `1001:x.php(12) : eval()'d code` |
//! | PHP on cPanel | `X-PHP-Script` | `dom/dir/mailer.php for 192.0.2.1` |
//! | cPanel | `X-Source-Dir` (with the script) | `dom:/public_html/dir`, `/home/account`, empty |
//! | Plesk | `X-PPP-Vhost` (with the script) | `dom` |
//! | Postfix | `Received` | `from x (...) (Authenticated sender: user@dom) by host (Postfix) with ESMTPSA id ...` |
//!
//! Panels and MTAs add these at the end, below what a client may have forged, so the last field of a name counts; but
//! Received is put on top, so there it is the first. A server that adds none of these fields adds nothing below a forged
//! one either: there, one rule for the field that it does add is safer than `auto`.

use schemas::Envelope;

use super::normalise;
use crate::header::HeaderSection;

/// Accounts that many sites share: they stand for nobody, so the search goes on.
const SHARED_ACCOUNTS: [&str; 8] =
    ["nobody", "www-data", "apache", "httpd", "nginx", "mailnull", "-system-", "-remote-"];

type Reader = fn(&str) -> Option<String>;

const FIELDS: [(&str, Reader); 5] = [
    ("X-AuthUser", whole),
    ("X-Authenticated-Sender", after_host),
    ("X-Get-Message-Sender-Via", sender_via),
    ("X-Authenticated-Id", whole),
    ("X-Source-Auth", whole),
];

/// The identity and its source; the envelope sender at last.
#[must_use]
pub fn identify(section: &HeaderSection<'_>, envelope: &Envelope) -> (String, String) {
    for (name, read) in FIELDS {
        if let Some(found) = section.last(name).and_then(|field| read(&field.text())) {
            return (found, format!("header:{name}"));
        }
    }
    if let Some((found, name)) = script(section) {
        return (found, format!("header:{name}"));
    }
    if let Some(found) = section.first("received").and_then(|field| authenticated_sender(&field.text())) {
        return (found, "received".into());
    }
    (normalise::reverse_path(envelope), "envelope".into())
}

/// What the fields say when they do not all name the same account: one of them may be forged.
#[must_use]
pub fn disagreement(section: &HeaderSection<'_>) -> Option<String> {
    let named: Vec<(&str, String)> =
        FIELDS.iter().filter_map(|(name, read)| Some((*name, read(&section.last(name)?.text())?))).collect();
    // `user` and `user@dom` may be the same account, told shorter.
    let account = |text: &str| text.split('@').next().unwrap_or_default().to_lowercase();
    let first = account(&named.first()?.1);
    if named.iter().all(|(_, text)| account(text) == first) {
        return None;
    }
    Some(named.iter().map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>().join(", "))
}

/// How a rule of one's own reads a field whose shape is known: `None` when the shape is not, `Some(None)` when it is but
/// names nobody.
#[must_use]
pub fn read_known(name: &str, text: &str) -> Option<Option<String>> {
    if name.eq_ignore_ascii_case("received") {
        return Some(authenticated_sender(text));
    }
    if name.eq_ignore_ascii_case("x-php-originating-script") {
        return Some(script_name(text));
    }
    FIELDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, read)| read(text))
}

fn whole(text: &str) -> Option<String> {
    named(text)
}

/// `host: account`. On mail of the server itself there is no account.
fn after_host(text: &str) -> Option<String> {
    if text.trim_end().ends_with(':') {
        return None;
    }
    named(text.split_once(": ").map_or(text, |(_, account)| account))
}

/// `host: how: account/remarks`, or `host: redirect/forwarder owner account -> address`.
fn sender_via(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("forwarder owner ") {
        return named(rest.split(" -> ").next().unwrap_or(rest));
    }
    let (_, account) = text.rsplit_once(": ")?;
    named(account.split('/').next().unwrap_or(account))
}

fn named(account: &str) -> Option<String> {
    let account = normalise::account(account);
    let shared = SHARED_ACCOUNTS.iter().any(|name| name.eq_ignore_ascii_case(&account));
    (!account.is_empty() && !shared).then_some(account)
}

/// The script that made the message, with the directory or site it belongs to where that is told, and the field that
/// says so.
#[must_use]
pub fn script(section: &HeaderSection<'_>) -> Option<(String, &'static str)> {
    let originating = section.last("x-php-originating-script").and_then(|field| script_name(&field.text()));
    if let Some(script) = originating {
        let name = script.split_once(':').map_or(script.as_str(), |(_, name)| name);
        let text_of = |field| section.last(field).map(|f| f.text().into_owned()).filter(|t| !t.is_empty());
        let identity = match (text_of("x-source-dir"), text_of("x-ppp-vhost")) {
            (Some(dir), _) => format!("{}/{name}", dir.trim_end_matches('/')),
            (None, Some(site)) => format!("{site} {script}"),
            (None, None) => script,
        };
        return Some((identity, "X-PHP-Originating-Script"));
    }
    let text = section.last("x-php-script")?.text().into_owned();
    let script = text.split(" for ").next().unwrap_or_default().trim();
    (!script.is_empty()).then(|| (script.to_owned(), "X-PHP-Script"))
}

/// `uid:file.php`, without the line of an `eval`.
fn script_name(text: &str) -> Option<String> {
    let name = text.split('(').next().unwrap_or(text).trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn authenticated_sender(received: &str) -> Option<String> {
    // What the client calls itself stands before what Postfix found out, so the last one is Postfix's own.
    let (_, rest) = received.rsplit_once("(Authenticated sender: ")?;
    let (sender, _) = rest.split_once(')')?;
    named(sender)
}
