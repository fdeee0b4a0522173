//! Words of the subject and the text; the make of the HTML.

use super::words_and_pairs;
use crate::classifier::features::{Block, Features, hash, mix};
use crate::classifier::html::Html;
use crate::classifier::reading::Reading;
use crate::classifier::words::Words;

/// What all HTML parts together say, for the traits.
#[derive(Default)]
pub(super) struct HtmlFacts {
    pub(super) is_there: bool,
    pub(super) has_form: bool,
    pub(super) has_password_field: bool,
    pub(super) has_script: bool,
    pub(super) has_refresh: bool,
    pub(super) has_tiny_picture: bool,
    pub(super) hidden_bytes: usize,
    pub(super) comments: usize,
}

impl HtmlFacts {
    pub(super) fn take(&mut self, html: &Html<'_>, features: &mut Features) {
        self.is_there = true;
        self.has_form |= html.has_form;
        self.has_password_field |= html.has_password_field;
        self.has_script |= html.has_script;
        self.has_refresh |= html.has_refresh;
        self.has_tiny_picture |= html.has_tiny_picture;
        self.hidden_bytes += html.hidden.trim().len();
        self.comments += html.comments;
        for tag in &html.tags {
            let key = mix(1, lower_hash(tag));
            features.add(Block::Html, key, || format!("HTML tag {}", tag.to_ascii_lowercase()));
        }
        for (tag, attribute) in &html.attributes {
            let key = mix(mix(2, lower_hash(tag)), lower_hash(attribute));
            features.add(Block::Html, key, || {
                format!("HTML {} with {}", tag.to_ascii_lowercase(), attribute.to_ascii_lowercase())
            });
        }
        for property in &html.properties {
            let key = mix(3, lower_hash(property));
            features.add(Block::Html, key, || format!("HTML style {}", property.to_ascii_lowercase()));
        }
    }
}

/// A hash that is the same in upper and lower case.
fn lower_hash(name: &str) -> u64 {
    let mut lower = [0; 32];
    let end = name.len().min(lower.len());
    lower[..end].copy_from_slice(&name.as_bytes()[..end]);
    lower[..end].make_ascii_lowercase();
    hash(&lower[..end])
}

/// The words of all visible text; of two alternatives the second adds little, since every word counts once.
pub(super) fn words(reading: &Reading, named: bool) -> Words {
    let mut words = Words::of("", named);
    for text in reading.seen.iter().chain(&reading.plain) {
        words.read(text);
    }
    words
}

pub(super) fn subject_features(words: &Words, whose: &str, features: &mut Features) {
    words_and_pairs(words, (Block::Subject, Block::Subject), whose, hash(whose.as_bytes()), features);
}

pub(super) fn text_features(words: &Words, features: &mut Features) {
    words_and_pairs(words, (Block::Words, Block::Pairs), "text", 0, features);
}
