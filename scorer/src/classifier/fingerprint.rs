//! The fingerprint of a text: what of it stays the same when a few words are changed.

use schemas::history::Fingerprint;

use super::features::mix;
use super::words::Words;

/// Shorter texts are often the same without anybody having copied them, in words.
const MIN_WORDS: usize = 30;
const CLASSES: usize = 32;

/// The least hash in each of 32 classes of the pairs of words (one permutation hashing); a byte of each is kept.
#[must_use]
pub fn of(words: &Words) -> Option<Fingerprint> {
    if words.hashes.len() < MIN_WORDS {
        return None;
    }
    let mut least = [u64::MAX; CLASSES];
    for pair in words.hashes.windows(2) {
        let hash = mix(pair[0], pair[1]);
        let class = &mut least[(hash % CLASSES as u64) as usize];
        *class = hash.min(*class);
    }
    // Which is the least is decided by the high bits, so the low ones are as good as random.
    let byte = |hash: u64| if hash == u64::MAX { 0 } else { 1 + ((hash >> 5) % 255) as u8 };
    Some(Fingerprint(least.map(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint(text: &str) -> Option<Fingerprint> {
        of(&Words::of(text, false))
    }

    const OFFER: &str = "Dear customer, your mailbox has reached its limit and will be closed within the next two days unless you confirm your account. Please follow the link below and enter your password, so that our team can extend the storage of your mailbox at once and without any cost. We are sorry for the trouble this may cause and thank you for your patience and for choosing our service, which we make better every day.";

    #[test]
    fn a_few_other_words_change_little() {
        let one = fingerprint(OFFER).unwrap();
        let name = OFFER.replace("Dear customer", "Dear Maria").replace("two days", "three days");
        assert!(one.is_like(&fingerprint(&name).unwrap()));
        assert!(one.is_like(&fingerprint(&OFFER.to_uppercase()).unwrap()), "case is folded");
        let other = "Hello Anna, the minutes of our meeting on Tuesday are attached. We agreed that the new roof will be paid from the reserve, that the garden is planted in spring and that Peter asks for three more offers for the heating until the end of the month. Please tell me what you would change, and I will send them to all of the others next week.";
        assert!(!one.is_like(&fingerprint(other).unwrap()));
        assert_eq!(fingerprint("See you tomorrow, thanks!"), None);
    }

    proptest! {
        /// The likeness is that of the sets of pairs, within its error: surely the same above 90 in 100, surely not below 40.
        #[test]
        fn likeness_is_that_of_the_pairs(
            words in proptest::collection::vec("[a-z]{4,8}", 60..200),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), "[a-z]{9,12}"), 0..60),
        ) {
            let mut changed = words.clone();
            for (at, word) in changes {
                let at = at.index(changed.len());
                changed[at] = word;
            }
            let pairs = |words: &[String]| -> std::collections::BTreeSet<(String, String)> {
                words.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            };
            let (one, other) = (pairs(&words), pairs(&changed));
            let both = one.intersection(&other).count() as f64 / one.union(&other).count() as f64;
            let likes = fingerprint(&words.join(" ")).unwrap().is_like(&fingerprint(&changed.join(" ")).unwrap());
            prop_assert!(both < 0.9 || likes, "{}", both);
            prop_assert!(both > 0.4 || !likes, "{}", both);
        }
    }
}
