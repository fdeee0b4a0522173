//! How the message is built.

use crate::classifier::features::{Block, Features};
use crate::classifier::reading::Reading;
use crate::classifier::words::Words;
use crate::facts::Facts;
use crate::mime::{Encoding, Part};

pub(super) fn facts(facts: &Facts<'_>, reading: &Reading, text: &Words, features: &mut Features) {
    let parts = &facts.structure().parts;
    let mut outline = String::new();
    for part in parts.iter().take(8) {
        outline.push_str(&part.content_type);
        outline.push(' ');
    }
    features.fact_of(Block::Structure, "built of", outline.trim());
    features.fact_count(Block::Structure, "parts:", parts.len());
    for part in parts.iter().take(20) {
        features.fact_of(Block::Structure, "part of type", &part.content_type);
        if part.is_text() {
            text_part(part, features);
        }
        if let Some(boundary) = &part.boundary {
            features.fact_of(Block::Structure, "boundary like", &boundary_shape(boundary));
        }
        for name in part.file_names.iter().take(3) {
            let extension = name.rsplit_once('.').map_or("none", |(_, extension)| extension).to_lowercase();
            features.fact_of(Block::Structure, "file of kind", &extension);
        }
        if part.is_attachment {
            features.fact(Block::Structure, "has an attachment");
        }
    }
    amounts(facts, reading, text, features);
}

fn text_part(part: &Part<'_>, features: &mut Features) {
    let charset = part.charset.as_deref().unwrap_or("none").to_ascii_lowercase();
    features.fact_of(Block::Structure, "charset", &charset);
    let encoding = match part.encoding {
        Encoding::Identity => "none",
        Encoding::Base64 => "base64",
        Encoding::QuotedPrintable => "quoted-printable",
    };
    features.fact_of(Block::Structure, &format!("{} encoded as", part.content_type), encoding);
}

fn amounts(facts: &Facts<'_>, reading: &Reading, text: &Words, features: &mut Features) {
    features.fact_count(Block::Structure, "kilobytes:", facts.message.len() / 1024);
    features.fact_count(Block::Structure, "words:", text.hashes.len());
    features.fact_count(Block::Structure, "links:", reading.links.len());
    features.fact_count(Block::Structure, "pictures:", reading.pictures.len());
    features.fact_count(Block::Structure, "exclamation marks:", text.exclamations);
    features.fact_count(Block::Structure, "emoji:", text.emoji);
    let tenths = |part: usize, whole: usize| {
        (part * 10)
            .checked_div(whole)
            .map_or("none", |t| ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"][t.min(10)])
    };
    features.fact_of(
        Block::Structure,
        "tenths of the letters in capitals:",
        tenths(text.capitals, text.letters),
    );
    features.fact_of(
        Block::Structure,
        "tenths of the letters outside ASCII:",
        tenths(text.foreign, text.letters),
    );
    if reading.plain.iter().any(|t| t.lines().any(|line| line.starts_with('>'))) {
        features.fact(Block::Structure, "quotes lines of another message");
    }
    if reading.plain.iter().any(|t| t.contains("\n-- \n") || t.contains("\n-- \r\n")) {
        features.fact(Block::Structure, "has a signature");
    }
}

/// The pattern of a boundary, which tells the program that made it: runs of digits and letters made one.
fn boundary_shape(boundary: &str) -> String {
    let mut shape = String::new();
    for c in boundary.chars().take(70) {
        let class = match c {
            '0'..='9' | 'a'..='f' | 'A'..='F' => 'x',
            'g'..='z' | 'G'..='Z' => 'z',
            other => other,
        };
        if !shape.ends_with(class) {
            shape.push(class);
        }
        if shape.len() > 12 {
            break;
        }
    }
    shape
}
