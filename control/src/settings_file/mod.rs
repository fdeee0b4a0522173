//! `settings.toml`: from text to validated settings, with every mistake told at once.
//!
//! Journey: `node` (a tree that knows its lines) -> `users`, `egress`, `dkim_keys` (each with `levels` for the settings
//! that are inherited) -> cross checks here -> `Wanted`, which `resolve` turns into records.

mod dkim_keys;
mod egress;
mod levels;
mod node;
mod problem;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemas::settings::{OutgoingUser, Setting, SettingsView};

pub use crate::api::KeyFile;
pub use dkim_keys::{KeySource, WantedKey};
pub use egress::parse_host;
pub use levels::{SWITCHABLE, keys as level_keys};
pub use problem::{Problem, closest, did_you_mean};
pub use users::Password;

use node::Node;

const SECTIONS: [&str; 7] =
    ["defaults", "domain", "outgoing_user", "egress_source", "egress_pool", "dkim_key", "route"];
/// Largest setting, as JSON, in bytes: a change carries it twice and must fit into a record.
const MAX_SETTING_BYTES: usize = 400 * 1024;
/// Settings that one file may hold.
const MAX_SETTINGS: usize = 100_000;

/// What a file asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Settings that stand as they are.
    pub settings: Vec<Setting>,
    /// Users whose password is still to be compared or hashed; the hash in them is empty.
    pub password_users: Vec<(OutgoingUser, Password)>,
    pub dkim_keys: Vec<WantedKey>,
}

/// Names that are there to be referred to.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The `private_key_file`s that a file names; nothing when it does not parse.
#[must_use]
pub fn key_files_named(text: &str) -> Vec<String> {
    node::parse(text).map(|root| dkim_keys::files_named(&root)).unwrap_or_default()
}

/// Reads and checks a settings file. `current` is asked for what a file may refer to without containing it: DKIM keys.
///
/// # Errors
/// Everything that is wrong, in the order of the lines.
pub fn parse(
    text: &str,
    key_files: &BTreeMap<String, KeyFile>,
    current: &SettingsView,
) -> Result<Wanted, Vec<Problem>> {
    read(text, key_files, current, Passwords::Needed)
}

/// The same of a file that is only tried: its users need no passwords.
///
/// # Errors
/// As `parse`.
pub fn parse_without_passwords(
    text: &str,
    key_files: &BTreeMap<String, KeyFile>,
    current: &SettingsView,
) -> Result<Wanted, Vec<Problem>> {
    read(text, key_files, current, Passwords::MayLack)
}

/// Whether a user with a login must have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passwords {
    Needed,
    MayLack,
}

fn read(
    text: &str,
    key_files: &BTreeMap<String, KeyFile>,
    current: &SettingsView,
    passwords: Passwords,
) -> Result<Wanted, Vec<Problem>> {
    let root = node::parse(text)?;
    let mut reading = Reading {
        root: &root,
        passwords,
        problems: root.unknown_keys(&SECTIONS),
        wanted: Wanted::default(),
        keys: BTreeMap::new(),
    };
    reading.defaults();
    let domains = reading.domains();
    reading.egress();
    reading.dkim_keys(key_files, current);
    reading.users(&domains);
    reading.references(current);
    let Reading { mut problems, wanted, .. } = reading;
    problems.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
    problems.dedup();
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

struct Reading<'a> {
    root: &'a Node,
    passwords: Passwords,
    problems: Vec<Problem>,
    wanted: Wanted,
    /// Where each setting stands, by its key: for duplicates.
    keys: BTreeMap<String, usize>,
}

impl<'a> Reading<'a> {
    /// The tables of a `[[section]]`.
    fn tables(&mut self, section: &str) -> &'a [Node] {
        let Some(node) = self.root.get(section) else { return &[] };
        match node.items() {
            Some(items) if items.iter().all(Node::is_table) && items.len() <= MAX_SETTINGS => items,
            _ => {
                self.problems.push(node.problem(
                    "is no list of tables",
                    format!("write [[{section}]], in double brackets, for each"),
                ));
                &[]
            }
        }
    }

    /// Remembers a setting's key; a second one of that key is a problem.
    fn first_of_its_key(&mut self, key: String, node: &Node) -> bool {
        if let Some(line) = self.keys.get(&key) {
            let (kind, id) = key.split_once('/').unwrap_or(("setting", &key));
            self.problems.push(node.problem(
                format!("[[{kind}]] `{id}` stands in line {line} already"),
                "remove one of the two",
            ));
            return false;
        }
        self.keys.insert(key, node.line);
        true
    }

    fn add(&mut self, setting: Setting, node: &Node) {
        let size = serde_json::to_vec(&setting).map_or(0, |json| json.len());
        if size > MAX_SETTING_BYTES {
            self.problems.push(node.problem(
                format!("is {size} bytes large, the maximum is {MAX_SETTING_BYTES}"),
                "shorten its lists; a domain in a list covers its subdomains",
            ));
        }
        if self.first_of_its_key(setting.key(), node) {
            self.wanted.settings.push(setting);
        }
    }

    fn defaults(&mut self) {
        let Some(node) = self.root.get("defaults") else { return };
        if !node.is_table() {
            self.problems.push(node.problem("is no table", "write [defaults], in single brackets, once"));
            return;
        }
        let settings = levels::read(node, &[], &mut self.problems);
        self.add(Setting::Defaults { settings }, node);
    }

    fn domains(&mut self) -> Names {
        let mut names = Names::default();
        for node in self.tables("domain") {
            if let Some(domain) = users::domain(node, &mut self.problems) {
                names.0.insert(domain.name.to_string());
                self.add(Setting::Domain(domain), node);
            }
        }
        names
    }

    fn users(&mut self, domains: &Names) {
        for node in self.tables("outgoing_user") {
            let read = users::outgoing_user(node, domains, self.passwords, &mut self.problems);
            let Some((user, password)) = read else { continue };
            let Some(password) = password else {
                self.add(Setting::OutgoingUser(user), node);
                continue;
            };
            if self.first_of_its_key(Setting::OutgoingUser(user.clone()).key(), node) {
                self.wanted.password_users.push((user, password));
            }
        }
    }

    fn egress(&mut self) {
        let mut sources: BTreeSet<IpAddr> = BTreeSet::new();
        for node in self.tables("egress_source") {
            if let Some(source) = egress::source(node, &mut self.problems) {
                sources.insert(source.ip);
                self.add(Setting::EgressSource(source), node);
            }
        }
        for node in self.tables("egress_pool") {
            if let Some(pool) = egress::pool(node, &sources, &mut self.problems) {
                self.add(Setting::EgressPool(pool), node);
            }
        }
        for node in self.tables("route") {
            if let Some(route) = egress::route(node, &mut self.problems) {
                self.add(Setting::Route(route), node);
            }
        }
    }

    fn dkim_keys(&mut self, files: &BTreeMap<String, KeyFile>, current: &SettingsView) {
        for node in self.tables("dkim_key") {
            let Some(key) = dkim_keys::key(node, files, &mut self.problems) else { continue };
            if let Some(Setting::DkimKey(there)) = current.get(&key.setting_key())
                && matches!(key.source, KeySource::Generate { .. })
                && there.algorithm != key.algorithm()
            {
                self.problems.push(node.get("algorithm").unwrap_or(node).problem(
                    format!("the key `{}` of {} is there already, with another algorithm", key.selector, key.domain),
                    "use another selector for the new key: receivers still verify mail signed with the old one",
                ));
            }
            if self.first_of_its_key(key.setting_key(), node) {
                self.wanted.dkim_keys.push(key);
            }
        }
    }

    /// Pools and selectors that levels name.
    fn references(&mut self, current: &SettingsView) {
        let pools: BTreeSet<String> = (self.wanted.settings.iter())
            .filter_map(|setting| match setting {
                Setting::EgressPool(pool) => Some(pool.name.clone()),
                _ => None,
            })
            .collect();
        let levels = self
            .root
            .get("defaults")
            .into_iter()
            .chain(self.tables("domain"))
            .chain(self.tables("outgoing_user"));
        for node in levels.collect::<Vec<_>>() {
            if let Some(at) = node.get("delivery_pool")
                && let Some(name) = at.text().filter(|name| !pools.contains(*name))
            {
                let fix = did_you_mean(name, pools.iter().map(String::as_str), || {
                    format!("add [[egress_pool]] with name = \"{name}\"")
                });
                self.problems.push(at.problem(format!("there is no [[egress_pool]] `{name}`"), fix));
            }
            self.selector(node, current);
        }
    }

    fn selector(&mut self, node: &Node, current: &SettingsView) {
        let domain = node.get("domain").or_else(|| node.get("name"));
        let (Some(at), Some(domain)) = (node.get("dkim_selector"), domain) else { return };
        let (Some(selector), Some(domain)) = (at.text(), domain.text().and_then(users::parse_domain)) else {
            return;
        };
        let wanted =
            self.wanted.dkim_keys.iter().filter(|key| key.domain == domain).map(|key| key.selector.as_str());
        let known: Vec<&str> =
            wanted.chain(current.dkim_keys(&domain).map(|key| key.selector.as_str())).collect();
        if !known.contains(&selector) {
            let fix = did_you_mean(selector, known.iter().copied(), || {
                format!(
                    "add [[dkim_key]] with domain = \"{domain}\", selector = \"{selector}\" and generate = true"
                )
            });
            self.problems.push(at.problem(format!("{domain} has no DKIM key `{selector}`"), fix));
        }
    }
}

#[cfg(test)]
mod tests;
