//! All settings, folded from the `settings` topic, with the questions that workers ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{
    DkimKey, DomainSettings, Effective, EgressPool, EgressSource, OutgoingUser, Setting, UserAuth,
    UserSettings,
};
use crate::{Domain, UserId};

/// The settings as they stand after the records seen so far.
#[derive(Clone, Debug, Default)]
pub struct SettingsView {
    /// Offset of the newest record: the policy version.
    pub version: u64,
    records: BTreeMap<String, Setting>,
    /// Keys whose newest record does not parse.
    unreadable: BTreeSet<String>,
}

impl SettingsView {
    /// Takes one record of `settings`; says what it sets that this version does not know (see [`Setting::from_stored`]). A
    /// record that does not parse is an error; what the view holds of its key stays as it was.
    ///
    /// # Errors
    /// When the value is no setting.
    pub fn apply(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        offset: u64,
    ) -> Result<Vec<String>, serde_json::Error> {
        let key = String::from_utf8_lossy(key).into_owned();
        let mut ignored = Vec::new();
        match value.map(Setting::from_stored) {
            Some(Ok((setting, unknown))) => {
                ignored = unknown;
                self.unreadable.remove(&key);
                self.records.insert(key, setting);
            }
            Some(Err(error)) => {
                self.unreadable.insert(key);
                return Err(error);
            }
            None => {
                self.unreadable.remove(&key);
                self.records.remove(&key);
            }
        }
        self.version = self.version.max(offset);
        Ok(ignored)
    }

    /// Whether somebody may be an outgoing user whose record could not be read: a later version wrote it, most likely. Then
    /// who is not known must not be refused for good.
    #[must_use]
    pub fn may_lack_a_user(&self) -> bool {
        self.unreadable.iter().any(|key| key.starts_with("outgoing_user/"))
    }

    /// The same of one login (any case).
    #[must_use]
    pub fn may_lack_login(&self, login: &str) -> bool {
        self.unreadable.contains(&format!("outgoing_user/{}", login.to_lowercase()))
    }

    /// Every setting, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.records.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.records.get(key)
    }

    pub fn users(&self) -> impl Iterator<Item = &OutgoingUser> {
        self.of_kind("outgoing_user/").filter_map(|s| match s {
            Setting::OutgoingUser(user) => Some(user),
            _ => None,
        })
    }

    #[must_use]
    pub fn user(&self, id: &UserId) -> Option<&OutgoingUser> {
        match self.records.get(&format!("outgoing_user/{id}")) {
            Some(Setting::OutgoingUser(user)) => Some(user),
            _ => None,
        }
    }

    /// The user of the most specific range that holds `ip`. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn user_by_ip(&self, ip: IpAddr) -> Option<&OutgoingUser> {
        let ip = ip.to_canonical();
        self.users()
            .filter_map(|user| match &user.auth {
                UserAuth::Ip { range } if range.contains(&ip) => Some((range.prefix_len(), user)),
                _ => None,
            })
            .max_by_key(|(prefix, _)| *prefix)
            .map(|(_, user)| user)
    }

    /// The user of a login (any case).
    #[must_use]
    pub fn user_by_login(&self, login: &str) -> Option<&OutgoingUser> {
        self.user(&UserId(login.to_lowercase())).filter(|user| matches!(user.auth, UserAuth::Password { .. }))
    }

    #[must_use]
    pub fn domain(&self, name: &Domain) -> Option<&DomainSettings> {
        match self.records.get(&format!("domain/{name}")) {
            Some(Setting::Domain(domain)) => Some(domain),
            _ => None,
        }
    }

    /// The settings in force for who is no user (yet): the defaults.
    #[must_use]
    pub fn effective_for_nobody(&self) -> Effective {
        let empty = UserSettings::default();
        Effective::of(&[self.defaults().unwrap_or(&empty)], false)
    }

    fn defaults(&self) -> Option<&UserSettings> {
        match self.records.get("defaults/") {
            Some(Setting::Defaults { settings }) => Some(settings),
            _ => None,
        }
    }

    /// The settings in force for a user.
    #[must_use]
    pub fn effective(&self, user: &OutgoingUser) -> Effective {
        let empty = UserSettings::default();
        let defaults = self.defaults().unwrap_or(&empty);
        let domain = self.domain(&user.domain).map_or(&empty, |domain| &domain.settings);
        Effective::of(&[defaults, domain, &user.settings], matches!(user.auth, UserAuth::Ip { .. }))
    }

    pub fn sources(&self) -> impl Iterator<Item = &EgressSource> {
        self.of_kind("egress_source/").filter_map(|s| match s {
            Setting::EgressSource(source) => Some(source),
            _ => None,
        })
    }

    #[must_use]
    pub fn source(&self, ip: IpAddr) -> Option<&EgressSource> {
        match self.records.get(&format!("egress_source/{ip}")) {
            Some(Setting::EgressSource(source)) => Some(source),
            _ => None,
        }
    }

    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&EgressPool> {
        match self.records.get(&format!("egress_pool/{name}")) {
            Some(Setting::EgressPool(pool)) => Some(pool),
            _ => None,
        }
    }

    /// The keys of a domain, by selector.
    pub fn dkim_keys<'a>(&'a self, domain: &Domain) -> impl Iterator<Item = &'a DkimKey> {
        let prefix = format!("dkim_key/{domain}/");
        self.records.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix)).filter_map(
            |(_, s)| match s {
                Setting::DkimKey(key) => Some(key),
                _ => None,
            },
        )
    }

    /// The static route of a domain: `host:port`.
    #[must_use]
    pub fn route(&self, domain: &Domain) -> Option<&str> {
        match self.records.get(&format!("route/{domain}")) {
            Some(Setting::Route(route)) => Some(&route.host),
            _ => None,
        }
    }

    fn of_kind<'a>(&'a self, prefix: &'static str) -> impl Iterator<Item = &'a Setting> {
        self.records
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, s)| s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_read_is_remembered_until_another_takes_its_place() {
        let later = br#"{"kind":"outgoing_user","domain":"a.example","auth":{"by":"certificate"}}"#;
        let known = br#"{"kind":"outgoing_user","domain":"a.example","auth":{"by":"password","login":"a.example","password_hash":""}}"#;
        let mut view = SettingsView::default();
        assert!(view.apply(b"dkim_key/a.example/s1", Some(b"?"), 1).is_err());
        assert!(!view.may_lack_a_user(), "a key signs, it lets nobody in");
        assert!(view.apply(b"outgoing_user/a.example", Some(later), 2).is_err());
        assert!(
            view.may_lack_a_user() && view.may_lack_login("A.example") && !view.may_lack_login("b.example")
        );
        assert!(view.apply(b"outgoing_user/a.example", Some(known), 3).unwrap().is_empty());
        assert!(!view.may_lack_a_user() && view.user_by_login("a.example").is_some());
        assert!(view.apply(b"outgoing_user/a.example", Some(later), 4).is_err());
        assert!(view.user_by_login("a.example").is_some(), "what was known stays");
        view.apply(b"outgoing_user/a.example", None, 5).unwrap();
        assert!(!view.may_lack_a_user() && view.user_by_login("a.example").is_none());
    }
}
