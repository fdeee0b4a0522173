//! What delivery needs of the settings of an outgoing user, worked out once per user and version of the settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemas::UserId;
use schemas::settings::SettingsView;

/// Most users remembered.
const MAX_USERS: usize = 10_000;
/// For a user that is gone, and for mail of our own.
const DEFAULT_MAX_RETRY: Duration = Duration::from_secs(4 * 24 * 3600);

/// The settings of a user that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub max_retry: Duration,
    pub delivery_pool: Option<String>,
    pub dkim_selector: Option<String>,
}

/// Users looked up since the settings changed last. To fold the three levels anew for each message would copy every list
/// in them.
#[derive(Default)]
pub struct Users {
    known: Mutex<(u64, HashMap<UserId, Arc<User>>)>,
}

impl Users {
    /// The settings in force for `id`; the defaults when it is gone.
    #[must_use]
    pub fn get(&self, settings: &SettingsView, id: &UserId) -> Arc<User> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != settings.version || known.1.len() >= MAX_USERS {
            *known = (settings.version, HashMap::new());
        }
        if let Some(user) = known.1.get(id) {
            return Arc::clone(user);
        }
        let user = Arc::new(look_up(settings, id));
        known.1.insert(id.clone(), Arc::clone(&user));
        user
    }
}

fn look_up(settings: &SettingsView, id: &UserId) -> User {
    match settings.user(id).map(|user| settings.effective(user)) {
        Some(effective) => User {
            max_retry: effective.max_retry,
            delivery_pool: effective.delivery_pool,
            dkim_selector: effective.dkim_selector,
        },
        None => User { max_retry: DEFAULT_MAX_RETRY, delivery_pool: None, dkim_selector: None },
    }
}

#[cfg(test)]
mod tests {
    use schemas::settings::{OutgoingUser, Setting, UserAuth, UserSettings};

    use super::*;

    #[test]
    fn a_change_is_seen_and_an_unknown_user_has_the_defaults() {
        let (users, mut settings) = (Users::default(), SettingsView::default());
        let set = |settings: &mut SettingsView, days: f64, offset| {
            let user = Setting::OutgoingUser(OutgoingUser {
                domain: schemas::Domain::parse("a.example").unwrap(),
                auth: UserAuth::Password { login: "a.example".into(), password_hash: String::new() },
                settings: UserSettings { max_retry_days: Some(days), ..Default::default() },
            });
            let value = serde_json::to_vec(&user).unwrap();
            settings.apply(user.key().as_bytes(), Some(&value), offset).unwrap();
        };
        let id = UserId("a.example".into());
        let days = |settings: &SettingsView| users.get(settings, &id).max_retry.as_secs() / 86_400;
        assert_eq!(days(&settings), 4);
        set(&mut settings, 2.0, 7);
        assert_eq!(days(&settings), 2);
        set(&mut settings, 9.0, 8);
        assert_eq!((days(&settings), days(&settings)), (9, 9));
    }
}
