//! Nearly the same text from several identities of one user.

use std::time::Duration;

use schemas::Timestamp;
use schemas::history::{Fingerprint, MAX_TEXT_IDENTITIES, Text};
use schemas::verdict::Symbol;

use super::{Known, Lately, Sighting, growing};
use crate::evidence;

/// So many identities: fewer are colleagues who pass something on.
const IDENTITIES: (f32, f32) = (4.0, 16.0);
/// The same programs on many sites of a server write the same, and so do the employees of one company under its small
/// print; therefore little, and less for a few.
const WEIGHT: (f32, f32) = (0.1, 0.3);
/// What is sent for longer is a form or small print, no campaign.
const IS_A_FORM: Duration = Duration::from_secs(3 * 24 * 3600);

/// The place of a text that is nearly the same.
#[must_use]
pub fn same_text(texts: &[Text], fingerprint: &Fingerprint) -> Option<usize> {
    texts.iter().position(|text| text.fingerprint.is_like(fingerprint))
}

pub(super) fn symbol(
    sighting: &Sighting,
    known: &Known<'_>,
    lately: &Lately,
    at: Timestamp,
) -> Option<Symbol> {
    if lately.strangers == 0 {
        return None;
    }
    let text = &known.texts[same_text(known.texts, sighting.text.as_ref()?)?];
    let count = text.identities.len() + usize::from(!text.identities.contains(known.identity));
    let count = count.min(MAX_TEXT_IDENTITIES);
    if (count as f32) < IDENTITIES.0 || at.since(text.first) > IS_A_FORM {
        return None;
    }
    let or_more = if count >= MAX_TEXT_IDENTITIES { " or more" } else { "" };
    let minutes = at.since(text.first).as_secs() / 60;
    let evidence =
        format!("{count}{or_more} identities wrote nearly the same to strangers within {minutes} minutes");
    let weight = growing(count as f32, IDENTITIES, WEIGHT);
    Some(evidence::symbol("SAME_TEXT", weight, &evidence))
}
