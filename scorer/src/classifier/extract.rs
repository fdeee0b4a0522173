//! From a message to its features.

mod body;
mod header;
mod link;
mod structure;
mod traits;

use super::features::{Block, Features};
use super::lexicon::Lexicon;
use super::reading::Reading;
use super::words::Words;
use crate::facts::Facts;

/// The features of a message. `named`: with what each says, for the evidence.
#[must_use]
pub fn features(facts: &Facts<'_>, lexicon: &Lexicon, named: bool) -> Features {
    let mut features = Features::new(named);
    let mut reading = Reading::of(facts);
    header::facts(facts, &reading, &mut features);
    let mut html = body::HtmlFacts::default();
    reading.read_parts(facts, |part| html.take(part, &mut features));
    let subject = Words::of(&reading.subject, named);
    let from_name = Words::of(&reading.from.name, named);
    let text = body::words(&reading, named);
    features.text = super::fingerprint::of(&text);
    structure::facts(facts, &reading, &text, &mut features);
    let targets = link::Targets::of(&reading);
    targets.facts(&reading, &mut features);
    let parts = traits::Parts {
        reading: &reading,
        subject: &subject,
        from_name: &from_name,
        text: &text,
        html: &html,
        targets: &targets,
    };
    traits::facts(&parts, lexicon, &mut features);
    body::subject_features(&subject, "subject", &mut features);
    body::subject_features(&from_name, "author's name", &mut features);
    targets.words(&mut features);
    body::text_features(&text, &mut features);
    features
}

/// Adds each word and each pair of neighbours.
fn words_and_pairs(
    words: &Words,
    (single, pair): (Block, Block),
    whose: &str,
    salt: u64,
    features: &mut Features,
) {
    use super::features::mix;
    let text = |at: usize| words.texts.as_ref().map_or("", |texts| texts[at].as_str());
    let mut last = salt;
    for (at, word) in words.hashes.iter().enumerate() {
        features.add(single, mix(*word, salt), || format!("{whose} \"{}\"", text(at)));
        if at > 0 {
            features.add(pair, mix(mix(last, *word), salt), || {
                format!("{whose} \"{} {}\"", text(at - 1), text(at))
            });
        }
        last = *word;
    }
}
