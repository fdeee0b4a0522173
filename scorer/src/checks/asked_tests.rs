//! What others found, under each mode of its check.

use schemas::verdict::Disposition;
use schemas::{Position, Topic};

use super::*;
use crate::judge::{Case, judge};
use crate::outside::Findings;
use crate::samples::{NOW, classifier, envelope, policy};
use crate::state::Senders;

const MESSAGE: &str = "From: a@b.example\r\nTo: c@d.example\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\n\
    Subject: Re: minutes of the meeting\r\nMessage-ID: <2@b.example>\r\nIn-Reply-To: <1@d.example>\r\n\
    References: <1@d.example>\r\n\r\nThank you, see you there.\r\n";

/// The classification, whether it goes out, and the weight of the symbol where it is there.
fn outcome(found: Classification, sender: &str, mode: &str) -> (Classification, bool, Option<f32>) {
    let envelope = envelope(sender, &["c@d.example"]);
    let switched = format!("{{\"checks\": {{\"{}\": \"{mode}\"}}}}", found.code());
    let policy = if mode.is_empty() { policy("{}") } else { policy(&switched) };
    let symbol = Symbol { name: "FOUND".into(), weight: 0.3, evidence: String::new() };
    let findings = Findings { checks: vec![(found, symbol)], ..Findings::default() };
    let at = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let case = Case { envelope: &envelope, message: MESSAGE.as_bytes(), policy: &policy };
    let verdict = judge(&case, &findings, at, &Senders::default(), classifier(), NOW).verdict;
    let weight = verdict.symbols.iter().find(|symbol| symbol.name == "FOUND").map(|symbol| symbol.weight);
    (verdict.message.classification, verdict.disposition == Disposition::Release, weight)
}

#[test]
fn what_others_found_counts_blocks_or_is_left_out() {
    for found in ASKED {
        let code = found.code();
        assert_eq!(outcome(found, "a@b.example", "block"), (found, false, Some(1.0)), "{code}");
        assert_eq!(outcome(found, "a@b.example", "off"), (C::Clean, true, None), "{code}");
        for counted in ["", "count"] {
            assert_eq!(outcome(found, "a@b.example", counted), (C::Clean, true, Some(0.3)), "{code}");
        }
    }
}

#[test]
fn what_its_author_should_mend_never_blocks_what_is_only_passed_on() {
    let srs = "SRS0=hhh=tt=ext.example=a@b.example";
    for found in [C::Dmarc, C::BulkSender] {
        assert_eq!(outcome(found, srs, "block"), (C::Clean, true, Some(0.3)));
    }
    assert_eq!(outcome(C::ListedHost, srs, "block"), (C::ListedHost, false, Some(1.0)));
}

#[test]
fn what_is_counted_adds_to_the_score() {
    let envelope = envelope("a@b.example", &["c@d.example"]);
    let policy = policy(r#"{"spam_threshold": 0.5}"#);
    let symbol = |weight| Symbol { name: "FOUND".into(), weight, evidence: String::new() };
    let at = Position { topic: Topic::Accepted, partition: 0, offset: 0 };
    let case = Case { envelope: &envelope, message: MESSAGE.as_bytes(), policy: &policy };
    let of = |weight| {
        let checks = vec![(C::ListedHost, symbol(weight)), (C::Dmarc, symbol(weight))];
        let findings = Findings { checks, ..Findings::default() };
        judge(&case, &findings, at, &Senders::default(), classifier(), NOW).verdict.message.classification
    };
    assert_eq!((of(0.1), of(0.4)), (C::Clean, C::Spam));
}
