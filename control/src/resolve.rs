//! From what a file asks for to the settings that will stand: passwords compared and hashed, keys made and sealed. What
//! already stands and still fits is kept as it is, so that applying a file twice changes nothing.

use schemas::Timestamp;
use schemas::sealed::ClusterKey;
use schemas::settings::{DkimKey, OutgoingUser, Setting, SettingsView, UserAuth};

use crate::Error;
use crate::dkim::PrivateKey;
use crate::password;
use crate::settings_file::{KeySource, Password, Wanted, WantedKey};

/// Whether secrets are made or only talked about.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// A plan: what would be made is left out.
    Plan,
    Apply {
        cluster_key: &'a ClusterKey,
        now: Timestamp,
    },
}

/// Stands where a plan has no secret yet.
const NOT_MADE: &str = "(made when applied)";

/// Every setting that will stand but for DKIM keys that the file does not name. Blocks: up to 20 ms a password user.
///
/// # Errors
/// `Internal` when a key or hash cannot be made.
pub fn resolve(wanted: Wanted, current: &SettingsView, mode: Mode<'_>) -> Result<Vec<Setting>, Error> {
    let Wanted { mut settings, password_users, dkim_keys } = wanted;
    let users = hash_all(&password_users, current, mode)?;
    settings.extend(users.into_iter().map(Setting::OutgoingUser));
    for key in &dkim_keys {
        settings.push(Setting::DkimKey(dkim_key(key, current, mode)?));
    }
    Ok(settings)
}

/// On every core, since a hash is slow on purpose.
fn hash_all(
    users: &[(OutgoingUser, Password)],
    current: &SettingsView,
    mode: Mode<'_>,
) -> Result<Vec<OutgoingUser>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
    let share = users.len().div_ceil(threads).max(1);
    let shares: Vec<Result<Vec<OutgoingUser>, String>> = std::thread::scope(|scope| {
        let running: Vec<_> = (users.chunks(share))
            .map(|chunk| scope.spawn(move || chunk.iter().map(|user| hashed(user, current, mode)).collect()))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("hashing panicked".into())))
            .collect()
    });
    let mut all = Vec::with_capacity(users.len());
    for share in shares {
        all.extend(share.map_err(Error::Internal)?);
    }
    Ok(all)
}

fn hashed(
    (user, password): &(OutgoingUser, Password),
    current: &SettingsView,
    mode: Mode<'_>,
) -> Result<OutgoingUser, String> {
    let stored = match current.user(&user.id()).map(|user| &user.auth) {
        Some(UserAuth::Password { password_hash, .. }) => Some(password_hash),
        _ => None,
    };
    let hash = match (password, stored, mode) {
        (Password::Hash(hash), _, _) => hash.clone(),
        (Password::Plain(plain), Some(stored), _) if password::verifies(plain, stored) => stored.clone(),
        (Password::Plain(_), _, Mode::Plan) => NOT_MADE.into(),
        (Password::Plain(plain), _, Mode::Apply { .. }) => password::hash(plain)?,
    };
    let UserAuth::Password { login, .. } = &user.auth else { return Ok(user.clone()) };
    let auth = UserAuth::Password { login: login.clone(), password_hash: hash };
    Ok(OutgoingUser { auth, ..user.clone() })
}

fn dkim_key(wanted: &WantedKey, current: &SettingsView, mode: Mode<'_>) -> Result<DkimKey, Error> {
    let stored = match current.get(&wanted.setting_key()) {
        Some(Setting::DkimKey(key)) => Some(key),
        _ => None,
    };
    let keep = |key: &&DkimKey| match &wanted.source {
        KeySource::Generate { .. } => true,
        KeySource::File(given) => given.public_key() == key.public_key && opens(key, mode),
    };
    if let Some(key) = stored.filter(keep) {
        return Ok(key.clone());
    }
    let Mode::Apply { cluster_key, now } = mode else {
        return Ok(DkimKey {
            domain: wanted.domain.clone(),
            selector: wanted.selector.clone(),
            algorithm: wanted.algorithm(),
            sealed_private_key: NOT_MADE.into(),
            public_key: match &wanted.source {
                KeySource::Generate { .. } => NOT_MADE.into(),
                KeySource::File(key) => key.public_key().to_owned(),
            },
            created_at: None,
        });
    };
    // One that takes the place of another signs when that one did.
    let created_at = stored.map_or(Some(now), |key| key.created_at);
    let seal = |key: &PrivateKey| key.seal(cluster_key, &wanted.domain, &wanted.selector, created_at);
    match &wanted.source {
        KeySource::File(key) => Ok(seal(key)),
        KeySource::Generate { kind } => Ok(seal(&PrivateKey::generate(*kind).map_err(Error::Internal)?)),
    }
}

/// A stored key that this cluster cannot open, say after its key file was lost, is sealed anew from the file.
fn opens(key: &DkimKey, mode: Mode<'_>) -> bool {
    match mode {
        Mode::Plan => true,
        Mode::Apply { cluster_key, .. } => {
            let purpose = Setting::DkimKey(key.clone()).key();
            cluster_key.open(&purpose, &key.sealed_private_key).is_ok()
        }
    }
}
