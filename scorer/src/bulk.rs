//! What large receivers ask of bulk senders: an aligned DKIM signature, a DMARC record, and one-click unsubscribe (RFC 8058). A
//! From domain is a bulk sender at a receiver with more than [`LIMIT`] recipients there, today or yesterday (UTC).
//!
//! The receivers ask for one-click unsubscribe in marketing and subscribed mail. Which mail that is cannot be told, so here it is
//! missed in all of a bulk sender's but replies, and weighs little.

pub mod receivers;

use schemas::history::{Bulk, day_of};
use schemas::verdict::{Classification, Symbol};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::classifier::links;
use crate::evidence;
use crate::facts::Facts;
use crate::header::HeaderSection;
use crate::outside::alignment::Authentication;

use self::receivers::Receiver;

/// Recipients of a day at one receiver that make no bulk sender yet. Google and Microsoft name this number, Yahoo names none.
pub const LIMIT: u32 = 5000;
/// A fault of the sender's setup, and no sign of abuse.
const WEIGHT: f32 = 0.05;

/// What a message sends to one large receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub receiver: Receiver,
    /// From domain and receiver, as they stand in the history.
    pub pair: u32,
    pub recipients: u32,
}

/// What a message sends to each large receiver. The null reverse-path answers somebody: that is no bulk mail.
#[must_use]
pub fn sent(facts: &Facts<'_>) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    if facts.envelope.reverse_path.is_null() {
        return sent;
    }
    let domains = facts.envelope.recipients.iter().map(|recipient| recipient.forward_path.domain());
    for receiver in domains.filter_map(|domain| receivers::of(domain.as_str())) {
        if let Some(known) = sent.iter_mut().find(|known| known.receiver == receiver) {
            known.recipients += 1;
        } else if let Some(from) = from_domain(facts) {
            sent.push(Sent { receiver, pair: pair(from, receiver), recipients: 1 });
        }
    }
    sent
}

/// As receivers count: subdomains with their owner.
fn from_domain<'a>(facts: &'a Facts<'_>) -> Option<&'a str> {
    facts.header_from().map(|author| links::registered(author.domain().as_str()))
}

fn pair(from: &str, receiver: Receiver) -> u32 {
    (xxh3_64_with_seed(from.as_bytes(), xxh3_64(receiver.name.as_bytes())) >> 32) as u32
}

/// What a message of a bulk sender lacks. `counted`: what the user sent before; `authentication`: what DNS says, where it was
/// asked.
#[must_use]
pub fn check(
    facts: &Facts<'_>,
    sent: &[Sent],
    counted: Option<&Bulk>,
    authentication: Option<Authentication>,
) -> Option<(Classification, Symbol)> {
    let day = day_of(facts.envelope.accepted_at);
    let in_bulk = sent.iter().filter_map(|sent| {
        let (today, yesterday) = counted.map_or((0, 0), |counted| counted.count(day, sent.pair));
        let today = today.saturating_add(sent.recipients);
        let (count, when) = if today >= yesterday { (today, "today") } else { (yesterday, "yesterday") };
        (count > LIMIT).then_some((count, when, sent.receiver))
    });
    let from = from_domain(facts)?;
    let lacking = in_bulk.filter_map(|(count, when, receiver)| {
        let lacks = lacks(facts, from, receiver, authentication);
        (!lacks.is_empty()).then_some((count, when, receiver, lacks))
    });
    let (count, when, receiver, lacks) = lacking.max_by_key(|(count, _, _, lacks)| (lacks.len(), *count))?;
    let evidence = format!(
        "{} recipients at {} {when} from {from}: {}",
        grouped(count),
        receiver.name,
        lacks.join("; ")
    );
    Some((Classification::BulkSender, evidence::symbol("BULK_SENDER", WEIGHT, &evidence)))
}

/// For a person who can change it. What is not known is not missed.
fn lacks(
    facts: &Facts<'_>,
    from: &str,
    receiver: Receiver,
    authentication: Option<Authentication>,
) -> Vec<String> {
    let mut lacks = Vec::new();
    if receiver.asks_one_click && !is_reply(&facts.header) && !has_one_click(&facts.header) {
        lacks.push(
            "no one-click unsubscribe (RFC 8058): add List-Unsubscribe with an https URI, and List-Unsubscribe-Post: \
             List-Unsubscribe=One-Click"
                .to_owned(),
        );
    }
    let Some(Authentication { has_dmarc, has_dkim }) = authentication else { return lacks };
    if has_dkim == Some(false) {
        lacks.push(format!(
            "no aligned DKIM signature: make a DKIM key of {from} here and publish its record, or sign with d={from}"
        ));
    }
    if !has_dmarc {
        lacks.push(format!("no DMARC record: publish _dmarc.{from} TXT \"v=DMARC1; p=none\""));
    }
    lacks
}

fn is_reply(header: &HeaderSection<'_>) -> bool {
    header.first("in-reply-to").is_some() || header.first("references").is_some()
}

/// RFC 8058, 3.1.
fn has_one_click(header: &HeaderSection<'_>) -> bool {
    let says_post = header
        .all("list-unsubscribe-post")
        .any(|field| field.text().trim().eq_ignore_ascii_case("List-Unsubscribe=One-Click"));
    says_post && header.all("list-unsubscribe").any(|field| has_https(&field.text()))
}

/// Whether one of the URIs in angle brackets (RFC 2369, 2) is one of https, with a host.
fn has_https(value: &str) -> bool {
    let uris = value.split('<').skip(1).filter_map(|rest| rest.split_once('>'));
    uris.map(|(uri, _)| uri.trim()).any(|uri| {
        let scheme = uri.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        scheme && uri.len() > 8
    })
}

/// With a comma at each thousand.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "bulk_tests.rs"]
mod tests;
