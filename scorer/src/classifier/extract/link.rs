//! Where the links lead.

use super::header::is_freemail;
use super::words_and_pairs;
use crate::classifier::features::{Block, Features, hash, mix};
use crate::classifier::links::{WebAddress, chosen_name, registered, shape, suffix};
use crate::classifier::reading::Reading;
use crate::classifier::words::Words;

/// Hosts on which anybody can put a page at once.
const FREE_PAGES: [&str; 40] = [
    "web.app",
    "firebaseapp.com",
    "blogspot.com",
    "weebly.com",
    "wixsite.com",
    "github.io",
    "r2.dev",
    "workers.dev",
    "pages.dev",
    "vercel.app",
    "netlify.app",
    "herokuapp.com",
    "glitch.me",
    "000webhostapp.com",
    "repl.co",
    "ipfs.io",
    "dweb.link",
    "storage.googleapis.com",
    "sites.google.com",
    "docs.google.com",
    "forms.gle",
    "forms.office.com",
    "s3.amazonaws.com",
    "amazonaws.com",
    "azurewebsites.net",
    "blob.core.windows.net",
    "windows.net",
    "cloudfront.net",
    "square.site",
    "godaddysites.com",
    "myftp.org",
    "duckdns.org",
    "ddns.net",
    "sharepoint.com",
    "typeform.com",
    "jotform.com",
    "notion.site",
    "canva.com",
    "translate.goog",
    "ngrok.io",
];
/// Services that hide where a link leads.
const SHORTENERS: [&str; 22] = [
    "bit.ly",
    "tinyurl.com",
    "t.co",
    "goo.gl",
    "ow.ly",
    "is.gd",
    "buff.ly",
    "rebrand.ly",
    "cutt.ly",
    "rb.gy",
    "shorturl.at",
    "t.ly",
    "s.id",
    "tiny.cc",
    "lnkd.in",
    "adf.ly",
    "bl.ink",
    "linktr.ee",
    "urlz.fr",
    "qrco.de",
    "u.to",
    "v.gd",
];

/// Where the links of a message lead.
pub(super) struct Targets<'a> {
    pub(super) web: Vec<(WebAddress<'a>, &'a str)>,
    texts: Vec<Words>,
    paths: Vec<Words>,
    pub(super) other_schemes: Vec<&'a str>,
    /// Links whose text is an address of another domain than they lead to.
    pub(super) deceiving: usize,
}

impl<'a> Targets<'a> {
    pub(super) fn of(reading: &'a Reading) -> Self {
        let mut targets = Targets {
            web: Vec::new(),
            texts: Vec::new(),
            paths: Vec::new(),
            other_schemes: Vec::new(),
            deceiving: 0,
        };
        for link in &reading.links {
            match WebAddress::parse(&link.target) {
                Some(address) => {
                    targets.deceiving += usize::from(deceives(&link.text, &address));
                    targets.texts.push(Words::of(&link.text, true));
                    targets.paths.push(Words::of(address.path, true));
                    targets.web.push((address, link.text.as_str()));
                }
                None => {
                    if let Some((scheme, _)) = link.target.split_once(':') {
                        targets.other_schemes.push(scheme);
                    }
                }
            }
        }
        targets
    }

    /// Registered domains that links lead to.
    pub(super) fn domains(&self) -> Vec<&str> {
        let mut domains: Vec<&str> = self.web.iter().map(|(address, _)| registered(&address.host)).collect();
        domains.sort_unstable();
        domains.dedup();
        domains
    }

    pub(super) fn facts(&self, reading: &Reading, features: &mut Features) {
        for scheme in self.other_schemes.iter().filter(|s| s.len() < 12) {
            features.fact_of(Block::Links, "link of kind", &scheme.to_ascii_lowercase());
        }
        for (address, text) in &self.web {
            target(address, features);
            if text.trim().is_empty() {
                features.fact(Block::Links, "link without a text");
            }
        }
        for source in &reading.pictures {
            match WebAddress::parse(source) {
                Some(address) => {
                    features.fact_of(Block::Links, "picture from", registered(&address.host));
                }
                None => {
                    let scheme = source.split_once(':').map_or("no scheme", |(scheme, _)| scheme);
                    features.fact_of(
                        Block::Links,
                        "picture by",
                        if scheme.len() < 10 { scheme } else { "?" },
                    );
                }
            }
        }
    }

    /// Words of link texts and of paths.
    pub(super) fn words(&self, features: &mut Features) {
        for words in &self.texts {
            words_and_pairs(words, (Block::Links, Block::Links), "link text", hash(b"link text"), features);
        }
        for words in &self.paths {
            for (word, text) in words.hashes.iter().zip(words.texts.iter().flatten()).take(6) {
                let key = mix(*word, hash(b"link path"));
                features.add(Block::Links, key, || format!("link path \"{text}\""));
            }
        }
    }

    /// Of how many links `is` holds: none, some or all.
    pub(super) fn share(&self, is: impl Fn(&WebAddress<'_>) -> bool) -> &'static str {
        let count = self.web.iter().filter(|(address, _)| is(address)).count();
        match count {
            _ if self.web.is_empty() => "no links",
            0 => "none",
            n if n == self.web.len() => "all",
            n if n * 2 >= self.web.len() => "most",
            _ => "some",
        }
    }
}

pub(super) fn is_free_page(host: &str) -> bool {
    FREE_PAGES
        .iter()
        .any(|page| host == *page || host.strip_suffix(page).is_some_and(|rest| rest.ends_with('.')))
}

pub(super) fn is_shortener(host: &str) -> bool {
    SHORTENERS.contains(&host)
}

fn target(address: &WebAddress<'_>, features: &mut Features) {
    let host = address.host.as_str();
    features.fact_of(Block::Links, "link to", registered(host));
    features.fact_of(Block::Links, "link to a domain that ends in", suffix(host));
    features.fact_of(Block::Links, "link to a domain whose name is", shape(chosen_name(host)));
    features.fact_count(Block::Links, "labels in a link's host:", host.split('.').count());
    let mut path_parts = address.path.split('/').filter(|p| !p.is_empty());
    features.fact_count(Block::Links, "parts of a link's path:", path_parts.clone().count());
    let longest = path_parts.clone().map(str::len).max().unwrap_or(0);
    features.fact_count(Block::Links, "characters in a part of a link's path:", longest);
    if let Some(last) = path_parts.next_back()
        && let Some((_, extension)) = last.rsplit_once('.')
        && extension.len() < 6
    {
        features.fact_of(Block::Links, "link to a file of kind", &extension.to_ascii_lowercase());
    }
    if !address.query.is_empty() {
        features.fact_count(Block::Links, "characters in a link's query:", address.query.len());
        for pair in address.query.split('&').take(6) {
            let name = pair.split('=').next().unwrap_or_default();
            if name.len() < 20 {
                features.fact_of(Block::Links, "link with the parameter", &name.to_ascii_lowercase());
            }
        }
    }
    if !address.is_secure {
        features.fact(Block::Links, "link without encryption");
    }
    if !address.fragment.is_empty() {
        features.fact_of(
            Block::Links,
            "link with a fragment",
            if address.fragment.contains('@') { "that holds an address" } else { "" },
        );
    }
}

/// The text is an address, and not of the domain that the link leads to.
fn deceives(text: &str, address: &WebAddress<'_>) -> bool {
    let text = text.trim();
    let looks_like_address = !text.contains(char::is_whitespace) && text.len() > 4;
    if !looks_like_address {
        return false;
    }
    let full;
    let shown = if text.contains("://") || text.starts_with("www.") {
        WebAddress::parse(text)
    } else if text.contains('.') && !text.contains('@') && !is_freemail(text) {
        full = format!("http://{text}");
        return WebAddress::parse(&full).is_some_and(|shown| {
            psl::suffix(shown.host.as_bytes()).is_some_and(|s| s.is_known())
                && registered(&shown.host) != registered(&address.host)
        });
    } else {
        None
    };
    shown.is_some_and(|shown| registered(&shown.host) != registered(&address.host))
}
