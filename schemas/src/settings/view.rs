//! All settings, folded from the `settings` topic, with the questions that workers ask.

use std::collections::BTreeMap;
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
}

impl SettingsView {
    /// Takes one record of `settings`. A record that does not parse is an error; the view stays as it was.
    ///
    /// # Errors
    /// When the value is no setting.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>, offset: u64) -> Result<(), serde_json::Error> {
        let key = String::from_utf8_lossy(key).into_owned();
        match value {
            Some(value) => {
                let setting = serde_json::from_slice(value)?;
                self.records.insert(key, setting);
            }
            None => {
                self.records.remove(&key);
            }
        }
        self.version = self.version.max(offset);
        Ok(())
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

    /// The settings in force for a user.
    #[must_use]
    pub fn effective(&self, user: &OutgoingUser) -> Effective {
        let empty = UserSettings::default();
        let defaults = match self.records.get("defaults/") {
            Some(Setting::Defaults { settings }) => settings,
            _ => &empty,
        };
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
