//! What Mailweir knows before it is trained: phrases with one meaning in several languages, and which names belong to
//! which domains. They become features like all others; training says what they weigh.

use std::collections::HashMap;

use super::features::mix;
use super::links;
use super::words::Words;

const PHRASES: &str = include_str!("lexicon/phrases.txt");
const BRANDS: &str = include_str!("lexicon/brands.tsv");
/// Words of the longest phrase.
const LONGEST: usize = 4;

/// Phrases and names, by the hashes of their words.
#[derive(Debug)]
pub struct Lexicon {
    meanings: Vec<String>,
    phrases: HashMap<u64, u16>,
    brands: Vec<Brand>,
    names: HashMap<u64, u16>,
    /// One bit for some of the hash of each word that a phrase or name begins with: most words begin none.
    first_words: Vec<u64>,
}

const FIRST_WORD_BITS: usize = 1 << 16;

/// A name that impostors use.
#[derive(Debug)]
struct Brand {
    name: String,
    /// The names of its registered domains, without their suffixes.
    domains: Vec<String>,
}

/// Whether somebody who calls himself by a name owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Owner,
    /// The name stands in the domain, but the domain is another's.
    Lookalike,
    Stranger,
}

impl Lexicon {
    #[must_use]
    pub fn new() -> Self {
        let mut lexicon = Lexicon {
            meanings: Vec::new(),
            phrases: HashMap::new(),
            brands: Vec::new(),
            names: HashMap::new(),
            first_words: vec![0; FIRST_WORD_BITS / 64],
        };
        for line in PHRASES.lines().filter(|line| !line.starts_with('#')) {
            if let Some(meaning) = line.strip_prefix('[') {
                lexicon.meanings.push(meaning.trim_end_matches(']').to_owned());
            } else {
                let meaning = lexicon.meanings.len().saturating_sub(1) as u16;
                for phrase in line.split(',') {
                    let key = lexicon.key(phrase);
                    lexicon.phrases.entry(key).or_insert(meaning);
                }
            }
        }
        for line in BRANDS.lines() {
            let (name, domains) = line.split_once('\t').unwrap_or((line, ""));
            let brand = lexicon.brands.len() as u16;
            let key = lexicon.key(name);
            lexicon.names.entry(key).or_insert(brand);
            let domains = domains.split(' ').filter(|d| !d.is_empty()).map(str::to_owned).collect();
            lexicon.brands.push(Brand { name: name.to_owned(), domains });
        }
        lexicon
    }

    /// The key of a phrase that is being learnt.
    fn key(&mut self, phrase: &str) -> u64 {
        let words = Words::of(phrase, false).hashes;
        if let Some(first) = words.first() {
            let (word, bit) = first_word_bit(*first);
            self.first_words[word] |= bit;
        }
        words.into_iter().reduce(mix).unwrap_or_default()
    }

    /// Calls with the key of every run of one to [`LONGEST`] words that may be a phrase.
    fn each_phrase(&self, words: &[u64], mut call: impl FnMut(u64)) {
        for start in 0..words.len() {
            let (word, bit) = first_word_bit(words[start]);
            if self.first_words[word] & bit == 0 {
                continue;
            }
            let mut key = words[start];
            call(key);
            for word in words.iter().skip(start + 1).take(LONGEST - 1) {
                key = mix(key, *word);
                call(key);
            }
        }
    }

    /// How often each meaning is expressed; one phrase counts once wherever it stands within a longer one.
    #[must_use]
    pub fn meanings(&self, words: &[u64]) -> Vec<(&str, usize)> {
        let mut counts = vec![0usize; self.meanings.len()];
        self.each_phrase(words, |key| {
            if let Some(meaning) = self.phrases.get(&key) {
                counts[usize::from(*meaning)] += 1;
            }
        });
        self.meanings.iter().map(String::as_str).zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// The names of brands in a text, each with how often it stands there.
    #[must_use]
    pub fn brands(&self, words: &[u64]) -> Vec<(u16, usize)> {
        let mut found: Vec<(u16, usize)> = Vec::new();
        self.each_phrase(words, |key| {
            if let Some(brand) = self.names.get(&key) {
                match found.iter_mut().find(|(known, _)| known == brand) {
                    Some((_, count)) => *count += 1,
                    None => found.push((*brand, 1)),
                }
            }
        });
        found
    }

    /// Known names, each with the first of its domains' names.
    pub fn owned_names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.brands.iter().filter_map(|brand| Some((brand.name.as_str(), brand.domains.first()?.as_str())))
    }

    #[must_use]
    pub fn brand_name(&self, brand: u16) -> &str {
        self.brands.get(usize::from(brand)).map_or("", |brand| &brand.name)
    }

    /// What a host has to do with a brand.
    #[must_use]
    pub fn claim(&self, brand: u16, host: &str) -> Claim {
        let Some(brand) = self.brands.get(usize::from(brand)) else { return Claim::Stranger };
        let chosen = links::chosen_name(host);
        let suffix = links::suffix(host);
        // Its own top-level domain, or a domain that is sold to those who can show who they are, more often than not.
        let is_usual = suffix.rsplit('.').next().is_some_and(|top| {
            top.len() == 2
                || matches!(top, "com" | "net" | "org" | "gov" | "edu" | "int")
                || top == brand.name
        });
        if is_usual && brand.domains.iter().any(|domain| chosen == domain || suffix_is(suffix, domain)) {
            return Claim::Owner;
        }
        let squeezed: String = brand.name.chars().filter(|c| *c != ' ').collect();
        if squeezed.len() > 3 && host.contains(squeezed.as_str()) {
            Claim::Lookalike
        } else {
            Claim::Stranger
        }
    }
}

impl Default for Lexicon {
    fn default() -> Self {
        Self::new()
    }
}

fn first_word_bit(hash: u64) -> (usize, u64) {
    let bit = hash as usize % FIRST_WORD_BITS;
    (bit / 64, 1 << (bit % 64))
}

fn suffix_is(suffix: &str, domain: &str) -> bool {
    suffix.split('.').any(|label| label == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_mean_the_same_in_every_language() {
        let lexicon = Lexicon::new();
        for text in ["please Verify your account", "Verifique sua conta agora", "Vérifiez votre compte"] {
            let words = Words::of(text, false).hashes;
            assert_eq!(lexicon.meanings(&words)[0].0, "asks to verify an account", "{text}");
        }
    }

    #[test]
    fn a_name_belongs_to_its_domains() {
        let lexicon = Lexicon::new();
        let words = Words::of("your PayPal account, PAYPAL", false).hashes;
        let [(brand, 2)] = lexicon.brands(&words)[..] else { panic!("one brand, twice") };
        assert_eq!(lexicon.brand_name(brand), "paypal");
        for (host, claim) in [
            ("mail.paypal.com", Claim::Owner),
            ("paypal.co.uk", Claim::Owner),
            ("paypal.shop", Claim::Lookalike),
            ("paypal-secure.com", Claim::Lookalike),
            ("paypal.com.evil.example", Claim::Lookalike),
            ("evil.example", Claim::Stranger),
        ] {
            assert_eq!(lexicon.claim(brand, host), claim, "{host}");
        }
    }
}
