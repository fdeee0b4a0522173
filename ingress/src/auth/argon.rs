//! argon2id over memory that goes back to the system: glibc before 2.38 keeps freed blocks below 32 MiB for itself, and
//! many logins would make the process grow for good.

use argon2::password_hash::{Ident, Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Allocations of this size are mapped on their own, and unmapped when freed.
const RETURNED_WHEN_FREED: usize = 33 << 20;

/// Whether `password` is the one that `hash` (a PHC string) was made from. Anything that is no such hash matches nothing.
pub(super) fn verify(hash: &str, password: &str) -> bool {
    computed(hash, password).is_some_and(|(stored, computed)| stored == computed)
}

/// The stored output and the one computed with the same parameters; comparing them takes the same time wherever they differ.
fn computed(hash: &str, password: &str) -> Option<(Output, Output)> {
    let hash = PasswordHash::new(hash).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm)
        .ok()
        .filter(|_| hash.algorithm == Ident::new_unwrap("argon2id"))?;
    let version = Version::try_from(hash.version.unwrap_or(19)).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let stored = hash.hash?;
    let mut buffer = [0u8; Salt::MAX_LENGTH];
    let salt = hash.salt?.decode_b64(&mut buffer).ok()?;
    let blocks = params.block_count();
    let mut memory: Vec<Block> = Vec::with_capacity(blocks.max(RETURNED_WHEN_FREED / Block::SIZE));
    memory.resize(blocks, Block::default());
    let argon2 = Argon2::new(algorithm, version, params);
    let fill = |out: &mut [u8]| {
        let filled = argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut memory);
        filled.map_err(argon2::password_hash::Error::from)
    };
    Some((stored, Output::init_with(stored.len(), fill).ok()?))
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;
    use argon2::password_hash::SaltString;

    use super::*;

    #[test]
    fn the_right_password_and_no_other() {
        let salt = SaltString::from_b64("c29tZXNhbHRzb21lc2FsdA").unwrap();
        let hash = Argon2::default().hash_password(b"correct horse", &salt).unwrap().to_string();
        assert!(verify(&hash, "correct horse"));
        assert!(!verify(&hash, "correct horse "));
        assert!(!verify("", "") && !verify("$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5", "x"));
        assert!(!verify(super::super::NOBODY, "x"));
        assert!(computed(super::super::NOBODY, "x").is_some(), "it takes the time of a real one");
    }
}
