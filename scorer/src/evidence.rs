//! Evidence: what was seen, fit for a log, a report and a record of bounded size.

use schemas::topics::MAX_EVIDENCE_BYTES;
use schemas::verdict::Symbol;

/// Evidence of one symbol, in bytes; more is cut with a mark.
pub const MAX_SYMBOL_EVIDENCE_BYTES: usize = 1024;

const MARK: &str = " [cut]";

/// `text` without control characters, at most `max` bytes.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if clean.len() + c.len_utf8() > max {
            break;
        }
        clean.push(c);
    }
    clean
}

/// As [`clean`], with a mark where it was cut.
#[must_use]
pub fn clean_marked(text: &str, max: usize) -> String {
    if text.len() <= max {
        return clean(text, max);
    }
    let mut cut = clean(text, max.saturating_sub(MARK.len()));
    cut.push_str(MARK);
    cut
}

/// Octets as evidence.
#[must_use]
pub fn of_octets(octets: &[u8]) -> String {
    let cut = &octets[..octets.len().min(MAX_SYMBOL_EVIDENCE_BYTES * 2)];
    clean_marked(String::from_utf8_lossy(cut).trim(), MAX_SYMBOL_EVIDENCE_BYTES)
}

/// A symbol whose evidence is clean and not too long.
#[must_use]
pub fn symbol(name: &str, weight: f32, evidence: &str) -> Symbol {
    Symbol { name: name.into(), weight, evidence: clean_marked(evidence, MAX_SYMBOL_EVIDENCE_BYTES) }
}

/// The three symbols that weigh most, as `CONTENT 0.99, RATE 0.35`.
#[must_use]
pub fn strongest(symbols: &[Symbol]) -> String {
    let mut weighty: Vec<&Symbol> = symbols.iter().filter(|symbol| symbol.weight > 0.0).collect();
    weighty.sort_by(|one, other| other.weight.total_cmp(&one.weight));
    let shown = weighty.iter().take(3).map(|symbol| format!("{} {:.2}", symbol.name, symbol.weight));
    shown.collect::<Vec<_>>().join(", ")
}

/// Keeps the evidence of one verdict below its maximum: symbols later in the list lose theirs.
pub fn bound(symbols: &mut [Symbol]) {
    let mut left = MAX_EVIDENCE_BYTES;
    for symbol in symbols {
        if symbol.evidence.len() > left {
            symbol.evidence = clean_marked(&symbol.evidence, left);
            symbol.evidence.truncate(left);
        }
        left -= symbol.evidence.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_cut_with_a_mark_and_holds_no_controls() {
        assert_eq!(symbol("A", 0.0, "a\r\nb").evidence, "a  b");
        let long = symbol("A", 0.0, &"ü".repeat(2000)).evidence;
        assert!(long.len() <= MAX_SYMBOL_EVIDENCE_BYTES && long.ends_with(MARK));
        let mut many = vec![symbol("A", 0.0, &"x".repeat(1024)); 100];
        bound(&mut many);
        assert!(many.iter().map(|s| s.evidence.len()).sum::<usize>() <= MAX_EVIDENCE_BYTES);
        assert!(many[0].evidence.len() > many[99].evidence.len());
    }
}
