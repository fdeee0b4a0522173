//! What becomes of a sender's recipients says how it came by them: who writes to addresses that do not exist bought, guessed or
//! found them. Weak evidence, which counts together with other: a customer may move an old list here, too.
//!
//! The identity behind the message is asked, and its user, with half the weight, only while little is known of the identity.
//! Nothing is said of bounces and of mail that is only passed on: others chose their recipients.

use schemas::outcomes::Numbers;
use schemas::verdict::{Identity, Symbol};
use schemas::{Timestamp, UserId};

use crate::evidence;
use crate::state::Senders;

const INVALID: &str = "INVALID_RECIPIENTS";
const REFUSED: &str = "BOUNCES";
/// All that [`symbols`] gives: a stored verdict tells them by their names.
pub const SYMBOLS: [&str; 2] = [INVALID, REFUSED];

/// Fewer recipients say nothing.
const MIN_SAMPLE: u64 = 20;
/// The least weight that is worth a symbol.
const LEAST: f32 = 0.1;
/// The most that recipients who do not exist weigh.
const MOST_INVALID: f32 = 0.4;
/// The most that other refusals weigh: they may be meant for the address that mail leaves from.
const MOST_REFUSED: f32 = 0.2;
/// What a finding about the whole user weighs of what it would about the identity.
const OF_USER: f32 = 0.5;

/// `INVALID_RECIPIENTS` and `BOUNCES`.
#[must_use]
pub fn symbols(senders: &Senders, user: &UserId, identity: &Identity, now: Timestamp) -> Vec<Symbol> {
    let lately =
        |identity| senders.get(user, identity).map(|row| row.outcomes.lately(now)).unwrap_or_default();
    let of_identity = lately(Some(identity));
    if of_identity.sample() >= MIN_SAMPLE {
        return of_numbers(of_identity, 1.0, "");
    }
    of_numbers(lately(None), OF_USER, " (of the whole user)")
}

fn of_numbers(numbers: Numbers, part: f32, of: &str) -> Vec<Symbol> {
    let sample = numbers.sample();
    let finding = |name: &str, count, most: f32, what: &str| {
        let weight = share_at_least(count, sample).min(most);
        let evidence = format!("{count} of the last {sample} recipients {what}{of}");
        (sample >= MIN_SAMPLE && weight >= LEAST).then(|| evidence::symbol(name, weight * part, &evidence))
    };
    [
        finding(INVALID, numbers.invalid, MOST_INVALID, "do not exist"),
        finding(REFUSED, numbers.refused, MOST_REFUSED, "were refused for good"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The share in all that such a sender sends, two standard errors below what was seen.
#[allow(clippy::cast_precision_loss)] // of numbers that large the share is exact enough
fn share_at_least(count: u64, sample: u64) -> f32 {
    let (count, sample) = (count as f32, sample.max(1) as f32);
    let share = count / sample;
    share - 2.0 * (share * (1.0 - share) / sample).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::NOW;
    use crate::state::new_row;
    use schemas::Domain;

    fn found(sent: u64, invalid: u64, refused: u64) -> Vec<(String, f32)> {
        let symbols = of_numbers(Numbers { sent, invalid, refused }, 1.0, "");
        symbols.into_iter().map(|symbol| (symbol.name, (symbol.weight * 100.0).round() / 100.0)).collect()
    }

    #[test]
    fn the_weight_grows_with_the_share_and_the_sample() {
        let invalid = |weight: f32| vec![("INVALID_RECIPIENTS".to_owned(), weight)];
        for (sent, count, expected) in [
            (19, 19, vec![]),
            (20, 4, vec![]),
            (60, 12, vec![]),
            (60, 18, invalid(0.18)),
            (600, 180, invalid(0.26)),
            (60, 38, invalid(0.4)),
            (10_000, 300, vec![]),
            (10_000, 1500, invalid(0.14)),
            (0, 50, invalid(0.4)),
        ] {
            assert_eq!(found(sent, count, 0), expected, "{count} of {sent}");
        }
        assert_eq!(found(60, 0, 38), [("BOUNCES".to_owned(), 0.2)]);
        assert_eq!(found(60, 0, 0), []);
    }

    #[test]
    fn the_identity_is_asked_and_its_user_only_while_little_is_known_of_it() {
        let (user, domain) = (UserId("192.0.2.1/32".into()), Domain::parse("a.example").unwrap());
        let identity = |name: &str| Identity(name.into());
        let mut senders = Senders::default();
        let mut put = |name: Option<&str>, numbers| {
            let mut row = new_row(&user, &domain, name.map(identity).as_ref(), NOW);
            row.outcomes.add(NOW, numbers);
            senders.put(row);
        };
        put(None, Numbers { sent: 90, invalid: 38, refused: 0 });
        put(Some("guesser"), Numbers { sent: 60, invalid: 38, refused: 0 });
        put(Some("neighbour"), Numbers { sent: 30, invalid: 0, refused: 0 });
        let of = |name: &str| symbols(&senders, &user, &identity(name), NOW);
        assert_eq!(of("guesser")[0].evidence, "38 of the last 60 recipients do not exist");
        assert_eq!(of("neighbour"), []);
        let new = of("new")[0].clone();
        assert_eq!(new.evidence, "38 of the last 90 recipients do not exist (of the whole user)");
        assert!(new.weight < 0.21);
        let days_later = NOW.plus(std::time::Duration::from_secs(2 * 86_400));
        assert_eq!(symbols(&senders, &user, &identity("guesser"), days_later), []);
    }
}
