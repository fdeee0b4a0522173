//! What an engine's answer is worth: from its own score, names and signatures to symbols. Pure.

use std::collections::{BTreeMap, BTreeSet};

use schemas::verdict::Symbol;

use super::Kind;
use crate::evidence;

/// What an engine said of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Scored {
        score: f64,
        /// From which on the engine itself takes a message for spam.
        required: f64,
        /// Its own symbols, with their scores where it tells them.
        named: Vec<(String, Option<f64>)>,
        /// What scanners behind it found.
        signatures: Vec<String>,
    },
    Scanned {
        signature: Option<String>,
    },
    /// It did not look at the message, because it is over a maximum of the engine's own.
    TooLarge,
}

/// What a score at the engine's own threshold is worth, unless the configuration says otherwise. Not enough to block by
/// itself: the threshold of an engine is made for incoming mail.
pub const DEFAULT_WEIGHT: f32 = 0.4;
/// A score this many times the threshold is worth no more than one at it.
const MOST_TIMES: f64 = 1.5;
/// One answer adds no more symbols for what `weights` names; the heaviest stay. A verdict has to fit into a record, whatever an
/// engine says.
const MAX_NAMED_SYMBOLS: usize = 50;
/// Longer names of symbols are cut.
const MAX_NAME_BYTES: usize = 100;
/// Signatures that say what may be bad, not what is.
const DOUBTFUL_SIGNATURES: [(&str, f32); 2] = [("Heuristics.", 0.3), ("PUA.", 0.2)];

/// How an engine's answers are weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Of a score at the engine's own threshold, 0 to 1.
    pub at_threshold: f32,
    /// Of single symbols; for ClamAV, of signatures whose name begins so, which then are no malware.
    pub by_name: BTreeMap<String, f32>,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { at_threshold: DEFAULT_WEIGHT, by_name: BTreeMap::new() }
    }
}

impl Weights {
    /// The probability that a score stands for. The score is taken as evidence that grows with its square, so that what
    /// is far below the threshold weighs next to nothing.
    fn of_score(&self, score: f64, required: f64) -> f32 {
        if required <= 0.0 || score <= 0.0 {
            return 0.0;
        }
        let times = (score / required).min(MOST_TIMES) as f32;
        1.0 - (1.0 - self.at_threshold.clamp(0.0, 1.0)).powf(times * times)
    }

    /// Of the symbols among `named` that have a weight of their own: each once, however often an engine repeats it.
    fn of_names(&self, named: &[(String, Option<f64>)]) -> Vec<(&str, f32)> {
        let seen: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let configured = self.by_name.iter().map(|(name, weight)| (name.as_str(), *weight));
        let mut found: Vec<_> = configured.filter(|(name, _)| seen.contains(name)).collect();
        found.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        found.truncate(MAX_NAMED_SYMBOLS);
        found
    }

    /// Of the longest name that `signature` begins with.
    fn of_signature(&self, signature: &str) -> Option<f32> {
        let configured = self.by_name.iter().map(|(name, weight)| (name.as_str(), *weight));
        // What the configuration says of a name stands behind what is built in, and so wins.
        let all = DOUBTFUL_SIGNATURES.into_iter().chain(configured);
        all.filter(|(name, _)| signature.starts_with(name))
            .max_by_key(|(name, _)| name.len())
            .map(|(_, weight)| weight)
    }
}

/// The most certain of what scanners behind an engine found, and what it weighs if it is no malware. What the configuration
/// names of such an engine are its symbols, not signatures.
fn most_certain(signatures: &[String]) -> Option<(&String, Option<f32>)> {
    let doubtful = Weights::default();
    let weighed = signatures.iter().map(|signature| (signature, doubtful.of_signature(signature)));
    weighed.max_by(|(_, one), (_, other)| one.unwrap_or(1.0).total_cmp(&other.unwrap_or(1.0)))
}

/// What an answer adds to a verdict: its symbols, and whether the message carries malware.
#[must_use]
pub fn weigh(kind: Kind, weights: &Weights, answer: &Answer) -> (Vec<Symbol>, bool) {
    let prefix = kind.symbol();
    match answer {
        Answer::TooLarge => (Vec::new(), false),
        Answer::Scanned { signature: None } => (Vec::new(), false),
        Answer::Scanned { signature: Some(signature) } => {
            let doubtful = weights.of_signature(signature);
            let symbol = evidence::symbol(prefix, doubtful.unwrap_or(1.0), signature);
            (vec![symbol], doubtful.is_none())
        }
        Answer::Scored { score, required, named, signatures } => {
            let weight = weights.of_score(*score, *required);
            let mut symbols = vec![evidence::symbol(prefix, weight, &in_words(*score, *required, named))];
            symbols.extend(weights.of_names(named).into_iter().map(|(name, weight)| {
                let symbol = format!("{prefix}_{}", name.to_ascii_uppercase());
                evidence::symbol(&evidence::clean(&symbol, MAX_NAME_BYTES), weight, "")
            }));
            let found = most_certain(signatures);
            if let Some((signature, doubtful)) = found {
                symbols.push(evidence::symbol(
                    &format!("{prefix}_VIRUS"),
                    doubtful.unwrap_or(1.0),
                    signature,
                ));
            }
            (symbols, found.is_some_and(|(_, doubtful)| doubtful.is_none()))
        }
    }
}

/// `7.1 of 15.0: NAME(3.5) OTHER(2.0)`, the heaviest first. Of a message that the engine has nothing against, the score alone:
/// most mail is such.
fn in_words(score: f64, required: f64, named: &[(String, Option<f64>)]) -> String {
    let mut text = format!("{score:.1} of {required:.1}");
    if score <= 0.0 {
        return text;
    }
    let counts = |score: &Option<f64>| score.is_none_or(|score| score != 0.0);
    // Where no symbol counts by itself (as with GTUBE in Rspamd), all say why.
    let none_counts = !named.iter().any(|(_, score)| counts(score));
    let mut named: Vec<_> = named.iter().filter(|(_, score)| none_counts || counts(score)).collect();
    named.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)));
    for (index, (name, score)) in named.into_iter().enumerate() {
        text.push_str(if index == 0 { ": " } else { " " });
        text.push_str(name);
        if let Some(score) = score {
            text.push_str(&format!("({score:.1})"));
        }
        if text.len() > evidence::MAX_SYMBOL_EVIDENCE_BYTES {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f64, signatures: &[&str]) -> Answer {
        Answer::Scored {
            score,
            required: 15.0,
            named: vec![("LOW".into(), Some(1.0)), ("HIGH".into(), Some(9.0)), ("NIL".into(), Some(0.0))],
            signatures: signatures.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_score_weighs_more_the_nearer_it_is_to_the_threshold_and_never_blocks_alone() {
        let weights = Weights::default();
        let of = |score| weights.of_score(score, 15.0);
        assert_eq!((of(-5.0), of(0.0)), (0.0, 0.0));
        assert!(of(3.0) < 0.03 && (of(6.0) - 0.08).abs() < 0.01, "{} {}", of(3.0), of(6.0));
        assert!((of(15.0) - DEFAULT_WEIGHT).abs() < 0.001);
        assert!(of(f64::MAX) < 0.7 && of(1000.0) == of(22.5));
        for required in [0.0, -1.0] {
            assert_eq!(weights.of_score(5.0, required), 0.0);
        }
        let certain = Weights { at_threshold: 1.0, ..Weights::default() };
        assert_eq!((certain.of_score(15.0, 15.0), certain.of_score(0.0, 15.0)), (1.0, 0.0));
    }

    #[test]
    fn evidence_names_what_the_engine_saw_and_named_symbols_stand_by_themselves() {
        let mut weights = Weights::default();
        weights.by_name.insert("HIGH".into(), 0.3);
        weights.by_name.insert("ABSENT".into(), 0.3);
        let (symbols, is_virus) = weigh(Kind::Rspamd, &weights, &scored(10.0, &[]));
        assert!(!is_virus);
        assert_eq!(symbols[0].evidence, "10.0 of 15.0: HIGH(9.0) LOW(1.0)");
        let names: Vec<_> = symbols.iter().map(|s| (s.name.as_str(), s.weight)).collect();
        assert_eq!((names[0].0, names[1], names.len()), ("RSPAMD", ("RSPAMD_HIGH", 0.3), 2));
        let (symbols, _) = weigh(Kind::Rspamd, &Weights::default(), &scored(-1.0, &[]));
        assert_eq!((symbols[0].evidence.as_str(), symbols[0].weight), ("-1.0 of 15.0", 0.0));
        let gtube = Answer::Scored {
            score: 15.0,
            required: 15.0,
            named: vec![("GTUBE".into(), Some(0.0))],
            signatures: Vec::new(),
        };
        let (symbols, _) = weigh(Kind::Rspamd, &Weights::default(), &gtube);
        assert_eq!(symbols[0].evidence, "15.0 of 15.0: GTUBE(0.0)");
        let (symbols, is_virus) = weigh(Kind::Rspamd, &Weights::default(), &scored(4.0, &["Eicar"]));
        assert!(is_virus && symbols[1].name == "RSPAMD_VIRUS" && symbols[1].evidence == "Eicar");
    }

    #[test]
    fn whatever_an_engine_repeats_its_symbols_are_few_and_short() {
        let mut weights = Weights::default();
        weights.by_name.insert("A".into(), 0.3);
        let said = |names: Vec<String>| Answer::Scored {
            score: 1.0,
            required: 5.0,
            named: names.into_iter().map(|name| (name, None)).collect(),
            signatures: Vec::new(),
        };
        let names_of = |weights: &Weights, answer: &Answer| {
            let (symbols, _) = weigh(Kind::SpamAssassin, weights, answer);
            symbols.into_iter().skip(1).map(|symbol| symbol.name).collect::<Vec<_>>()
        };
        let repeated = said(vec!["A".into(); 16_000]);
        assert_eq!(names_of(&weights, &repeated), ["SPAMASSASSIN_A"]);
        // Many that are configured: the heaviest stay.
        let all: Vec<String> = (0..1000).map(|number| format!("N{number}")).collect();
        weights.by_name.extend(all.iter().map(|name| (name.clone(), 0.1)));
        weights.by_name.insert("N999".into(), 0.2);
        let found = names_of(&weights, &said(all));
        assert_eq!((found.len(), found[0].as_str()), (MAX_NAMED_SYMBOLS, "SPAMASSASSIN_N999"));
        let long = "\u{e9}".repeat(50_000);
        weights.by_name.insert(long.clone(), 0.3);
        let found = names_of(&weights, &said(vec![long]));
        assert!(found.len() == 1 && found[0].len() <= MAX_NAME_BYTES, "{}", found[0].len());
    }

    #[test]
    fn a_signature_is_malware_unless_it_is_doubtful() {
        let mut weights = Weights::default();
        let of = |weights: &Weights, name: &str| {
            let (symbols, is_virus) =
                weigh(Kind::ClamAv, weights, &Answer::Scanned { signature: Some(name.into()) });
            (symbols[0].name.clone(), symbols[0].weight, is_virus)
        };
        assert_eq!(of(&weights, "Win.Test.EICAR_HDB-1"), ("CLAMAV".into(), 1.0, true));
        assert_eq!(of(&weights, "Heuristics.Phishing.Email.SpoofedDomain"), ("CLAMAV".into(), 0.3, false));
        weights.by_name.insert("Sanesecurity.Junk.".into(), 0.5);
        weights.by_name.insert("Heuristics.".into(), 0.1);
        assert_eq!(of(&weights, "Sanesecurity.Junk.1.UNOFFICIAL"), ("CLAMAV".into(), 0.5, false));
        assert_eq!(of(&weights, "Heuristics.Encrypted.Zip"), ("CLAMAV".into(), 0.1, false));
        assert_eq!(weigh(Kind::ClamAv, &weights, &Answer::Scanned { signature: None }), (Vec::new(), false));
    }

    #[test]
    fn a_doubtful_signature_is_no_malware_behind_rspamd_either() {
        for (signatures, weight, is_virus) in [
            (&["Heuristics.Phishing.Email.SpoofedDomain"][..], 0.3, false),
            (&["PUA.Win.Packer.Upx-1|setup.exe"], 0.2, false),
            (&["PUA.Win.Packer.Upx-1", "Heuristics.Structured.CreditCardNumber"], 0.3, false),
            (&["PUA.Win.Packer.Upx-1", "Eicar", "Heuristics.Encrypted.Zip"], 1.0, true),
            (&["Win.Trojan.PUA."], 1.0, true),
        ] {
            let (symbols, found) = weigh(Kind::Rspamd, &Weights::default(), &scored(4.0, signatures));
            let symbol = &symbols[1];
            assert_eq!((symbol.name.as_str(), symbol.weight, found), ("RSPAMD_VIRUS", weight, is_virus));
        }
    }
}
