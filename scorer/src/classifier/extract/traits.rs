//! What a person would call suspicious, or reassuring. Few features, meant to hold for mail of kinds and in languages never
//! seen in training: who claims to be whom, what is asked for, what is hidden.

use super::body::HtmlFacts;
use super::header::is_freemail;
use super::link::{Targets, is_free_page, is_shortener};
use crate::classifier::explain::IMPOSTOR;
use crate::classifier::features::{Block, Features};
use crate::classifier::lexicon::{Claim, Lexicon};
use crate::classifier::links::{WebAddress, chosen_name, registered};
use crate::classifier::reading::Reading;
use crate::classifier::words::Words;

pub(super) struct Parts<'a> {
    pub(super) reading: &'a Reading,
    pub(super) subject: &'a Words,
    pub(super) from_name: &'a Words,
    pub(super) text: &'a Words,
    pub(super) html: &'a HtmlFacts,
    pub(super) targets: &'a Targets<'a>,
}

pub(super) fn facts(parts: &Parts<'_>, lexicon: &Lexicon, features: &mut Features) {
    let impostor = brands(parts, lexicon, features);
    meanings(parts, lexicon, impostor, features);
    links(parts, features);
    hiding(parts, features);
    recipient(parts, features);
}

/// Names of brands, and whether the author may use them. Gives whether he pretends to be one.
fn brands(parts: &Parts<'_>, lexicon: &Lexicon, features: &mut Features) -> bool {
    let host = parts.reading.from.host.as_str();
    let mut impostor = false;
    let mut by_owner = false;
    for (place, words, at_least) in
        [("author's name", parts.from_name, 1), ("subject", parts.subject, 1), ("text", parts.text, 2)]
    {
        for (brand, count) in lexicon.brands(&words.hashes) {
            if count < at_least {
                continue;
            }
            let says = match lexicon.claim(brand, host) {
                Claim::Owner => {
                    by_owner = true;
                    "by its owner"
                }
                Claim::Lookalike => {
                    impostor = true;
                    "by a domain that looks like it"
                }
                Claim::Stranger if is_freemail(host) => {
                    impostor |= place != "text";
                    "by a free mailbox"
                }
                Claim::Stranger => {
                    impostor |= place != "text";
                    "by a stranger"
                }
            };
            features.fact_of(Block::Traits, &format!("a known name in the {place}"), says);
            let led = parts.targets.share(|address| lexicon.claim(brand, &address.host) == Claim::Owner);
            features.fact_of(
                Block::Traits,
                &format!("a known name in the {place}, links to its owner:"),
                led,
            );
        }
    }
    if impostor && !by_owner {
        features.fact(Block::Traits, IMPOSTOR);
    }
    impostor && !by_owner
}

/// What the message is about, whatever its language.
fn meanings(parts: &Parts<'_>, lexicon: &Lexicon, impostor: bool, features: &mut Features) {
    let own_links = parts.targets.share(|a| registered(&a.host) == registered(&parts.reading.from.host));
    let in_subject = lexicon.meanings(&parts.subject.hashes);
    for (meaning, _) in &in_subject {
        features.fact_of(Block::Traits, "subject", meaning);
    }
    let in_text = lexicon.meanings(&parts.text.hashes);
    for (meaning, count) in &in_text {
        features.fact_of(Block::Traits, "text", meaning);
        // Long texts speak of everything; what they speak of again and again is their matter.
        let per_hundred = count * 100 / parts.text.hashes.len().max(30);
        let density = match per_hundred {
            0 => "now and then",
            1..=2 => "often",
            3..=5 => "very often",
            _ => "all the time",
        };
        features.fact_of(Block::Traits, &format!("text {meaning}"), density);
        features.fact_of(Block::Traits, &format!("text {meaning}, links to the author's domain:"), own_links);
        if impostor {
            features.fact_of(Block::Traits, "in somebody else's name", meaning);
        }
    }
    for (at, (first, _)) in in_text.iter().enumerate() {
        for (second, _) in &in_text[at + 1..] {
            features.fact_of(Block::Traits, first, second);
        }
    }
}

fn links(parts: &Parts<'_>, features: &mut Features) {
    let targets = parts.targets;
    let from = registered(&parts.reading.from.host);
    let mut share = |says: &str, share: &str| features.fact_of(Block::Traits, says, share);
    share("links to the author's domain:", targets.share(|a| registered(&a.host) == from));
    share("links to a name like the author's:", targets.share(|a| chosen_name(&a.host) == chosen_name(from)));
    share("links to pages that anybody can make:", targets.share(|a| is_free_page(&a.host)));
    share("links through shorteners:", targets.share(|a| is_shortener(&a.host)));
    share("links to bare addresses:", targets.share(is_bare));
    share("links with a user name:", targets.share(|a| a.has_user));
    share("links to another alphabet:", targets.share(|a| a.host.contains("xn--")));
    share("links to an unusual port:", targets.share(|a| a.port.is_some()));
    share("links without encryption:", targets.share(|a| !a.is_secure));
    share("links to the top page:", targets.share(|a| a.path.len() < 2 && a.query.is_empty()));
    features.fact_count(Block::Traits, "domains that links lead to:", targets.domains().len());
    if targets.deceiving > 0 {
        features.fact(Block::Traits, "a link's text names another site than it leads to");
    }
    // One page, reached by every link and picture: mail that is one big button.
    let hosts: std::collections::BTreeSet<&str> = targets.web.iter().map(|(a, _)| a.host.as_str()).collect();
    if targets.web.len() > 1 && hosts.len() == 1 {
        features.fact(Block::Traits, "every link leads to one host");
    }
    let images = parts.reading.pictures.len();
    let words = parts.text.hashes.len();
    if images > 0 && words < 30 {
        features.fact(Block::Traits, "a picture and hardly a word");
    }
    if words < 30 && targets.web.len() == 1 {
        features.fact(Block::Traits, "one link and hardly a word");
    }
    if is_freemail(&parts.reading.from.host) && !targets.web.is_empty() {
        features.fact(Block::Traits, "links from a free mailbox");
    }
}

/// A number in place of a name.
fn is_bare(address: &WebAddress<'_>) -> bool {
    address.is_ip()
}

fn hiding(parts: &Parts<'_>, features: &mut Features) {
    let html = parts.html;
    let visible: usize = parts.reading.seen.iter().map(String::len).sum();
    if html.hidden_bytes > 0 {
        let says = if html.hidden_bytes > visible {
            "more than what is seen"
        } else if html.hidden_bytes > 300 {
            "a lot"
        } else {
            "a little"
        };
        features.fact_of(Block::Traits, "hidden text:", says);
    }
    for (is, says) in [
        (html.has_form, "a form in the mail"),
        (html.has_password_field, "a password field in the mail"),
        (html.has_script, "a script in the mail"),
        (html.has_refresh, "leads its reader elsewhere at once"),
        (html.has_tiny_picture, "a picture too small to see"),
        (html.is_there && parts.reading.plain.is_empty(), "HTML without a plain alternative"),
    ] {
        if is {
            features.fact(Block::Traits, says);
        }
    }
    features.fact_count(Block::Traits, "HTML comments:", html.comments);
    for (words, place) in
        [(parts.subject, "subject"), (parts.from_name, "author's name"), (parts.text, "text")]
    {
        if words.lookalikes > 0 {
            features.fact_of(Block::Traits, "letters that only look like others in the", place);
        }
        if words.invisible > 0 {
            features.fact_of(Block::Traits, "invisible characters inside of words in the", place);
        }
    }
}

/// The recipient's own name or domain, put in as if the author knew him.
fn recipient(parts: &Parts<'_>, features: &mut Features) {
    let [to] = parts.reading.to.as_slice() else { return };
    if to.local_part.len() < 3 || to.host.is_empty() {
        return;
    }
    let address = format!("{}@{}", to.local_part, to.host).to_lowercase();
    let contains = |text: &str| text.to_lowercase().contains(&address);
    if contains(&parts.reading.subject) {
        features.fact(Block::Traits, "the recipient's address in the subject");
    }
    if parts.reading.seen.iter().chain(&parts.reading.plain).any(|text| contains(text)) {
        features.fact(Block::Traits, "the recipient's address in the text");
    }
    if parts.targets.web.iter().any(|(a, _)| contains(a.query) || contains(a.fragment) || contains(a.path)) {
        features.fact(Block::Traits, "the recipient's address in a link");
    }
}
