//! Passwords of outgoing users: argon2id, in PHC string format.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

/// Longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// Memory that one verification may take: less is too easy to guess, more lets clients exhaust the node, in KiB.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 4 * 1024..=256 * 1024;
const PASSES: std::ops::RangeInclusive<u32> = 1..=20;
const LANES: std::ops::RangeInclusive<u32> = 1..=16;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Hashes a password with the parameters that OWASP gives as the least (19 MiB, 2 passes, 1 lane). Takes some 20 ms.
///
/// # Errors
/// What the hash function says; not seen with a password of permitted length.
pub fn hash(password: &str) -> Result<String, String> {
    let salt = SaltString::generate(&mut OsRng);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    argon2
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// Whether `password` is the one that was hashed. Takes some 20 ms.
#[must_use]
pub fn verifies(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Why `hash` cannot be taken as somebody's password hash.
///
/// # Errors
/// The reason, without the hash.
pub fn check_hash(hash: &str) -> Result<(), String> {
    let parsed =
        PasswordHash::new(hash).map_err(|_| "is no password hash in PHC string format".to_owned())?;
    if parsed.algorithm.as_str() != "argon2id" {
        return Err(format!("is a hash of algorithm {}, not argon2id", parsed.algorithm));
    }
    let params =
        Params::try_from(&parsed).map_err(|_| "has parameters that argon2id does not have".to_owned())?;
    if !MEMORY_KIB.contains(&params.m_cost()) {
        let (least, most) = (MEMORY_KIB.start(), MEMORY_KIB.end());
        return Err(format!("has memory m={} KiB, not between {least} and {most}", params.m_cost()));
    }
    if !PASSES.contains(&params.t_cost()) {
        return Err(format!("has t={} passes, not between 1 and 20", params.t_cost()));
    }
    if !LANES.contains(&params.p_cost()) {
        return Err(format!("has p={} lanes, not between 1 and 16", params.p_cost()));
    }
    if !parsed.hash.is_some_and(|output| OUTPUT_BYTES.contains(&output.len())) {
        return Err("has no output of 16 to 64 bytes".into());
    }
    if parsed.salt.is_none_or(|salt| salt.as_str().len() < 11) {
        return Err("has a salt shorter than 8 bytes".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_hashes_are_good_and_verify() {
        let made = hash("correct horse").unwrap();
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        check_hash(&made).unwrap();
        assert!(verifies("correct horse", &made) && !verifies("correct  horse", &made));
    }

    #[test]
    fn hashes_that_are_weak_or_something_else_are_refused() {
        for (hash, reason) in [
            ("{SHA}abcd", "no password hash"),
            ("$2b$12$abcdefghijklmnopqrstuu", "no password hash"),
            ("$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA", "argon2i,"),
            ("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA", "m=64"),
            ("$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA", "m=4000000"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l", "no output"),
        ] {
            let error = check_hash(hash).unwrap_err();
            assert!(error.contains(reason), "{hash}: {error}");
        }
    }
}
