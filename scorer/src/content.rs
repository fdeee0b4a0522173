//! What the content of a message says: the two test strings with which an operator tries the way of a blocked message, and
//! the classifier.

use memchr::memmem;
use schemas::history::Fingerprint;
use schemas::settings::CheckMode;
use schemas::verdict::{Classification, Symbol};

use crate::classifier::Classifier;
use crate::classifier::explain::Explanation;
use crate::evidence;
use crate::facts::Facts;
use crate::mime::Encoding;
use crate::policy::Policy;

/// The generic test for unsolicited bulk mail (SpamAssassin's `sample-spam.txt`); in two pieces, so that this file is
/// no spam.
const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X");
/// The test file of anti-malware scanners (EICAR); in two pieces, so that this file is no such file.
const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
/// The symbols that come from here.
pub const SYMBOLS: [&str; 4] = [VIRUS_TEST, SPAM_TEST, CLASSIFIED, PHISHING];
/// That of the test file for virus scanners.
pub const VIRUS_TEST: &str = "EICAR";
/// That of the test string for spam filters.
pub const SPAM_TEST: &str = "GTUBE";
const CLASSIFIED: &str = "CONTENT";
/// Of an encoded part, this much is looked at, in bytes.
const MAX_DECODED_BYTES: usize = 256 * 1024;

/// The symbol of what is after credentials.
pub const PHISHING: &str = "PHISHING";

/// What the content is found to be.
#[derive(Debug, Default)]
pub struct Content {
    pub symbols: Vec<Symbol>,
    pub is_virus: bool,
    /// The test string for spam filters is in it, and spam is blocked.
    pub is_test_spam: bool,
    /// If it is spam, it is after credentials in somebody else's name.
    pub is_phishing: bool,
    /// What its text is known by when it comes again.
    pub text: Option<Fingerprint>,
}

#[must_use]
pub fn examine(facts: &Facts<'_>, policy: &Policy, classifier: &Classifier) -> Content {
    let mut content = Content::default();
    if is_eicar(facts) {
        content.is_virus = true;
        content.symbols.push(evidence::symbol(VIRUS_TEST, 1.0, "the test file for virus scanners"));
    }
    match policy.mode(Classification::Spam) {
        CheckMode::Off => {}
        mode if has_gtube(facts) => {
            content.is_test_spam = mode == CheckMode::Block;
            content.symbols.push(evidence::symbol(SPAM_TEST, 1.0, "the test string for spam filters"));
        }
        CheckMode::Count | CheckMode::Block => classify(facts, classifier, &mut content),
    }
    content
}

/// What the classifier says. Why it says so costs a second look at the message, and is asked only of what stands out.
fn classify(facts: &Facts<'_>, classifier: &Classifier, content: &mut Content) {
    let (probability, text) = classifier.classify(facts);
    let probability = probability as f32;
    content.text = text;
    let explanation = if probability >= classifier.suspect_threshold() {
        classifier.explanation(facts)
    } else {
        Explanation::default()
    };
    content.symbols.push(evidence::symbol(CLASSIFIED, probability, &explanation.text));
    if let Some(why) = explanation.phishing {
        content.is_phishing = true;
        // It says what kind of spam it is; that it is spam has been weighed already.
        content.symbols.push(evidence::symbol(PHISHING, 0.0, &why));
    }
}

fn has_gtube(facts: &Facts<'_>) -> bool {
    let body = &facts.message[facts.header.body_at()..];
    memmem::find(body, GTUBE.as_bytes()).is_some()
        || facts.structure().parts.iter().any(|part| {
            part.is_text()
                && part.encoding == Encoding::Base64
                && memmem::find(&part.decoded_start(MAX_DECODED_BYTES), GTUBE.as_bytes()).is_some()
        })
}

/// It counts where a file begins with it, not where somebody writes about it.
fn is_eicar(facts: &Facts<'_>) -> bool {
    facts
        .structure()
        .parts
        .iter()
        .any(|part| !part.is_multipart() && part.decoded_start(EICAR.len()).starts_with(EICAR.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{classifier, envelope, policy};

    fn check(message: &str) -> (bool, bool) {
        let envelope = envelope("a@b.example", &["c@d.example"]);
        let content = examine(&Facts::of(&envelope, message.as_bytes()), &policy("{}"), classifier());
        (content.is_test_spam, content.is_virus)
    }

    #[test]
    fn test_strings_are_found() {
        assert_eq!(check(&format!("Subject: x\r\n\r\nhello\r\n{GTUBE}\r\n")), (true, false));
        assert_eq!(check(&format!("Subject: {GTUBE}\r\n\r\nhello\r\n")), (false, false));
        assert_eq!(check(&format!("Subject: x\r\n\r\n{EICAR}\r\n")), (false, true));
        assert_eq!(check(&format!("Subject: x\r\n\r\nabout {EICAR}\r\n")), (false, false));
        let encoded = "WEpTKkM0SkRCUUFETjEuTlNCTjMqMklETkVOKkdUVUJFLVNUQU5EQVJELUFOVEktVUJFLVRFU1Qt\r\nRU1BSUwqQy4zNFg=";
        assert_eq!(check(&format!("Content-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n")), (true, false));
    }

    #[test]
    fn who_asks_for_credentials_in_anothers_name_is_after_them() {
        let envelope = envelope("a@b.example", &["c@d.example"]);
        let found = |from: &str| {
            let message = format!(
                "From: {from}\r\nTo: c@d.example\r\nSubject: PayPal: your account has been limited\r\n\
                 Content-Type: text/html\r\n\r\n<p>Dear customer, we noticed unusual activity. Your PayPal account has been \
                 limited. Verify your account within 24 hours or it will be suspended.</p>\
                 <a href=\"http://login.example-verify.xyz/a9f8\">Verify your account now</a>\r\n"
            );
            let content = examine(&Facts::of(&envelope, message.as_bytes()), &policy("{}"), classifier());
            (content.is_phishing, content.symbols)
        };
        let (is_phishing, symbols) = found("PayPal Service <info@hacked-florist.example>");
        assert!(is_phishing && symbols.iter().any(|s| s.name == PHISHING && s.weight == 0.0), "{symbols:?}");
        assert!(symbols[0].weight > 0.9, "{symbols:?}");
        assert!(!found("PayPal <service@paypal.com>").0, "by its owner");
    }

    #[test]
    fn the_spam_test_can_be_switched() {
        let envelope = envelope("a@b.example", &["c@d.example"]);
        let message = format!("\r\n{GTUBE}\r\n");
        let facts = Facts::of(&envelope, message.as_bytes());
        let off = examine(&facts, &policy(r#"{"checks": {"spam": "off"}}"#), classifier());
        assert!(!off.is_test_spam && off.symbols.is_empty());
        let count = examine(&facts, &policy(r#"{"checks": {"spam": "count"}}"#), classifier());
        assert!(!count.is_test_spam && count.symbols.len() == 1);
    }
}
