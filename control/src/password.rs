//! Passwords of outgoing users: argon2id, in PHC string format.

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{Output, ParamsString, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// Memory that one verification may take: less is too easy to guess, more lets clients exhaust the node, in KiB.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 4 * 1024..=256 * 1024;
const PASSES: std::ops::RangeInclusive<u32> = 1..=20;
const LANES: std::ops::RangeInclusive<u32> = 1..=16;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// An allocation of this size or more is always given back to the system when it is freed (glibc's largest threshold
/// for that is 32 MiB). Below it, glibc before 2.38 reuses aligned memory so badly that each hash may cost its 19 MiB
/// for good.
const RETURNED_WHEN_FREED: usize = 33 * 1024 * 1024;

/// Hashes a password with the parameters that OWASP gives as the least (19 MiB, 2 passes, 1 lane). Takes some 20 ms.
///
/// # Errors
/// What the hash function says; not seen with a password of permitted length.
pub fn hash(password: &str) -> Result<String, String> {
    let salt = SaltString::generate(&mut OsRng);
    let (algorithm, version, params) = (Algorithm::Argon2id, Version::V0x13, Params::default());
    let output = output(password, salt.as_salt(), version, &params, Params::DEFAULT_OUTPUT_LEN)?;
    let hash = PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params).map_err(|error| error.to_string())?,
        salt: Some(salt.as_salt()),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Whether `password` is the one that was hashed. Takes some 20 ms.
#[must_use]
pub fn verifies(password: &str, hash: &str) -> bool {
    let Ok(stored) = PasswordHash::new(hash) else { return false };
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else { return false };
    let version = stored.version.map_or(Ok(Version::default()), Version::try_from);
    let (Ok(version), Ok(params)) = (version, Params::try_from(&stored)) else { return false };
    // Outputs are compared in constant time.
    stored.algorithm == Algorithm::Argon2id.ident()
        && output(password, salt, version, &params, expected.len()).is_ok_and(|found| found == expected)
}

/// argon2id itself.
fn output(
    password: &str,
    salt: Salt<'_>,
    version: Version,
    params: &Params,
    len: usize,
) -> Result<Output, String> {
    let mut buffer = [0u8; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut buffer).map_err(|error| error.to_string())?;
    let blocks = params.block_count();
    let mut memory: Vec<Block> = Vec::with_capacity(blocks.max(RETURNED_WHEN_FREED / Block::SIZE));
    memory.resize(blocks, Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params.clone());
    let fill = |out: &mut [u8]| {
        let filled = argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut memory);
        filled.map_err(argon2::password_hash::Error::from)
    };
    Output::init_with(len, fill).map_err(|error| error.to_string())
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
    fn it_is_argon2id_as_others_compute_it() {
        // From the reference implementation's own tests: m=65536 KiB, t=2, p=1.
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verifies("password", reference) && !verifies("passwore", reference));
        let plain = Argon2::default();
        let ours = hash("correct horse").unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(argon2::PasswordVerifier::verify_password(&plain, b"correct horse", &parsed).is_ok());
    }

    #[test]
    fn memory_is_given_back() {
        let resident = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
        };
        let made = hash("x").unwrap();
        let before = resident();
        for _ in 0..20 {
            assert!(!verifies("y", &made));
        }
        // Other tests run beside this one; 20 hashes would be 380 MiB.
        assert!(resident() < before + 200 * 1024, "{before} KiB, then {} KiB", resident());
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
