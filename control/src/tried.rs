//! Settings of a file that are only tried: read as when they are applied, and written nowhere.

use schemas::settings::{OutgoingUser, Setting, SettingsView, UserAuth};

use crate::api::{DiffEntry, SettingsFile};
use crate::{Error, diff, settings_file};

/// What a file would put in force.
#[derive(Debug)]
pub struct Tried {
    pub settings: SettingsView,
    /// How that differs from what is in force.
    pub diff: Vec<DiffEntry>,
}

/// Reads a settings file as `apply` does. Passwords may be left out, and are not looked at: nobody authenticates here. DKIM keys
/// are left out: they decide nothing about a message.
///
/// # Errors
/// `Settings`: everything that is wrong with the file.
pub fn tried(file: &SettingsFile, current: &SettingsView) -> Result<Tried, Error> {
    let parsed = settings_file::parse_without_passwords(&file.text, &file.key_files, current);
    let settings_file::Wanted { mut settings, password_users, .. } = parsed.map_err(Error::Settings)?;
    settings.extend(
        password_users.into_iter().map(|(user, _)| Setting::OutgoingUser(with_its_hash(user, current))),
    );
    let mut view = SettingsView::default();
    for setting in &settings {
        let value = serde_json::to_vec(setting)
            .map_err(|error| Error::Internal(format!("a setting cannot be written: {error}")))?;
        view.apply(setting.key().as_bytes(), Some(&value), current.version)
            .map_err(|error| Error::Internal(format!("a setting cannot be read back: {error}")))?;
    }
    let steps = diff::declarative(current, settings);
    Ok(Tried { settings: view, diff: steps.into_iter().map(|step| step.entry).collect() })
}

/// Of a user that is there already, the password is no difference.
fn with_its_hash(user: OutgoingUser, current: &SettingsView) -> OutgoingUser {
    match (&user.auth, current.user(&user.id()).map(|user| &user.auth)) {
        (UserAuth::Password { .. }, Some(auth @ UserAuth::Password { .. })) => {
            OutgoingUser { auth: auth.clone(), ..user }
        }
        _ => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nlogin = \"a.example\"\nspam_threshold = 0.5\n";

    fn tried_in(text: &str, current: &SettingsView) -> Result<Tried, Error> {
        tried(&SettingsFile { text: text.into(), ..SettingsFile::default() }, current)
    }

    #[test]
    fn a_password_need_not_be_given_and_is_no_difference() {
        let first = tried_in(FILE, &SettingsView::default()).unwrap();
        assert_eq!(first.diff.len(), 2);
        let user = first.settings.user_by_login("a.example").unwrap();
        assert_eq!(user.settings.spam_threshold, Some(0.5));
        for password in ["", "password = \"another\"\n"] {
            let again = tried_in(&format!("{FILE}{password}"), &first.settings).unwrap();
            assert!(again.diff.is_empty(), "{:?}", again.diff);
        }
    }

    #[test]
    fn mistakes_are_told_as_when_it_is_applied() {
        let text = FILE.replace("0.5", "5").replace("spam_", "spm_");
        let Err(Error::Settings(problems)) = tried_in(&text, &SettingsView::default()) else { panic!() };
        assert!(problems[0].to_string().contains("spam_threshold"), "{problems:?}");
    }
}
