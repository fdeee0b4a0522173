//! Checking logins: argon2id on its own threads, a short memory of verified logins, and protection against guessing.

mod argon;
mod guard;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventlog::View;
use schemas::settings::{SettingsView, UserAuth};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::session::AuthResult;
use guard::{Guard, Judgement};

/// How long a verified login is believed without argon2.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 10_000;
/// Longest login: a mailbox (RFC 5321 4.5.3.1).
const MAX_LOGIN_BYTES: usize = 320;
/// Checks at a time; more would only take memory (19 MiB each) from everything else.
const CHECKS: usize = 2;

/// A hash that no password has, for logins that do not exist: they take the same time.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm8$vK3PpFkxuiPEXq3v4lXc9sVZ1sXo7sTq2W0l0nJ9bJU";

/// Checks logins.
pub struct Authenticator {
    settings: View<SettingsView>,
    guard: Guard,
    verified: Mutex<HashMap<[u8; 32], Instant>>,
    /// Keys the memory of verified logins, so that it is worth nothing to who reads it.
    secret: [u8; 32],
    checks: Arc<Semaphore>,
}

impl Authenticator {
    #[must_use]
    pub fn new(settings: View<SettingsView>) -> Self {
        Authenticator {
            settings,
            guard: Guard::default(),
            verified: Mutex::default(),
            secret: rand::random(),
            checks: Arc::new(Semaphore::new(CHECKS)),
        }
    }

    pub async fn check(&self, ip: IpAddr, login: &str, password: String) -> AuthResult {
        // No address is longer; what a guesser makes up must not fill the memory of guesses.
        let login = if login.len() > MAX_LOGIN_BYTES { String::new() } else { login.to_lowercase() };
        // Before the memory of verified logins, too: else a guesser who is blocked could try it without end.
        match self.guard.before(ip, &login, Instant::now()) {
            Judgement::Blocked { why } => return AuthResult::Blocked(why),
            Judgement::Wait { delay } => tokio::time::sleep(delay).await,
            Judgement::Go => {}
        }
        let stored = {
            let settings = self.settings.read();
            match settings.user_by_login(&login).map(|user| user.auth.clone()) {
                Some(UserAuth::Password { password_hash, .. }) => Some(password_hash),
                // There is such a login, only not for this version.
                _ if settings.may_lack_login(&login) => return AuthResult::Unavailable,
                _ => None,
            }
        };
        let memory = self.memory_key(&login, stored.as_deref().unwrap_or_default(), &password);
        let good = self.remembered(&memory) || {
            let Ok(_permit) = self.checks.acquire().await else { return AuthResult::Unavailable };
            let hash = stored.as_deref().unwrap_or(NOBODY).to_owned();
            let checked = tokio::task::spawn_blocking(move || argon::verify(&hash, &password)).await;
            matches!(checked, Ok(true)) && stored.is_some()
        };
        self.guard.after(ip, &login, good, Instant::now());
        if !good {
            return AuthResult::Bad;
        }
        self.remember(memory);
        AuthResult::Good(login)
    }

    fn memory_key(&self, login: &str, hash: &str, password: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.secret[..], login.as_bytes(), hash.as_bytes(), password.as_bytes()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn remembered(&self, key: &[u8; 32]) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(key).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn remember(&self, key: [u8; 32]) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_REMEMBERED {
            verified.retain(|_, at| at.elapsed() < REMEMBERED);
        }
        if verified.len() < MAX_REMEMBERED {
            verified.entry(key).or_insert_with(Instant::now);
        }
    }
}
