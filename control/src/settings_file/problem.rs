//! What is wrong with a settings file: where, what, and what to write instead.

use serde::{Deserialize, Serialize};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// The key, as `outgoing_user[2].ip`; lists are counted from 0.
    pub key: String,
    /// What is wrong, with the value that was found.
    pub message: String,
    /// What to write.
    pub fix: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}: {}; {}", self.line, self.key, self.message, self.fix)
    }
}

/// The known word nearest to `word`, if it is near enough to be a slip of the pen.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean ...?`, or else `otherwise`.
pub fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    closest(word, known).map_or_else(otherwise, |near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let known = ["messages_per_hour", "messages_per_day", "ip"];
        assert_eq!(closest("mesages_per_huor", known), Some("messages_per_hour"));
        assert_eq!(closest("pi", known), Some("ip"));
        assert_eq!(closest("colour", known), None);
    }
}
