//! What a good file becomes.

use std::collections::BTreeMap;

use schemas::UserId;
use schemas::settings::{
    DkimAlgorithm, IdentityRule, OutgoingUser, QuarantineResponse, Setting, SettingsView, SpamAction,
    UserAuth,
};

use super::*;

/// The shape that operators rely on.
const GOOD: &str = r#"
[defaults]
spam_action = "enforce"
quarantine_response = "reject"
max_retry_days = 4

[[domain]]
name = "Customer.example"
abuse_address = "abuse@hoster.example"

[[outgoing_user]]
domain = "customer.example"
ip = "::ffff:192.0.2.0/124"
max_connections = 10

[[outgoing_user]]
domain = "customer.example"
login = "Shop@Customer.Example"
password = "secret"
identification = ["header:X-AuthUser", "envelope"]
limits = { messages_per_hour = 500, recipients_per_day = 2000 }
delivery_pool = "bulk"
dkim_selector = "s1"

[[outgoing_user]]
domain = "customer.example"
login = "customer.example"
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA"

[[egress_source]]
node = "node1"
ip = "192.0.2.10"
ehlo = "out1.hoster.example"

[[egress_source]]
node = "node1"
ip = "192.0.2.11"

[[egress_pool]]
name = "bulk"
sources = ["192.0.2.10", { ip = "192.0.2.11", weight = 3 }]

[[dkim_key]]
domain = "customer.example"
selector = "s1"
generate = true

[[route]]
domain = "partner.example"
host = "192.0.2.25"
"#;

fn wanted() -> Wanted {
    parse(GOOD, &BTreeMap::new(), &SettingsView::default()).unwrap_or_else(|p| panic!("{p:#?}"))
}

fn setting(key: &str) -> Setting {
    wanted().settings.into_iter().find(|s| s.key() == key).unwrap_or_else(|| panic!("{key} is missing"))
}

#[test]
fn every_section_becomes_settings() {
    let Setting::Defaults { settings } = setting("defaults/") else { panic!() };
    assert_eq!(settings.spam_action, Some(SpamAction::Enforce));
    assert_eq!(settings.quarantine_response, Some(QuarantineResponse::Reject));
    assert_eq!(settings.max_retry_days, Some(4.0));
    let Setting::Domain(domain) = setting("domain/customer.example") else { panic!() };
    assert_eq!(domain.abuse_address.unwrap().to_string(), "abuse@hoster.example");
    let Setting::EgressPool(pool) = setting("egress_pool/bulk") else { panic!() };
    assert_eq!(pool.sources.iter().map(|s| s.weight).collect::<Vec<_>>(), [1, 3]);
    let Setting::Route(route) = setting("route/partner.example") else { panic!() };
    assert_eq!(route.host, "192.0.2.25:25");
    let keys = wanted().dkim_keys;
    assert_eq!(
        (keys[0].setting_key().as_str(), keys[0].algorithm()),
        ("dkim_key/customer.example/s1", DkimAlgorithm::RsaSha256)
    );
}

#[test]
fn ipv4_mapped_ranges_are_ipv4() {
    let Setting::OutgoingUser(user) = setting("outgoing_user/192.0.2.0/28") else { panic!() };
    assert!(matches!(user.auth, UserAuth::Ip { range } if range.to_string() == "192.0.2.0/28"));
    assert_eq!(user.settings.max_connections, Some(10));
}

#[test]
fn logins_are_lower_case_and_passwords_stay_apart() {
    let users: Vec<(OutgoingUser, Password)> = wanted().password_users;
    let ids: Vec<UserId> = users.iter().map(|(user, _)| user.id()).collect();
    assert_eq!(ids, [UserId("shop@customer.example".into()), UserId("customer.example".into())]);
    assert_eq!(users[0].1, Password::Plain("secret".into()));
    assert!(matches!(&users[1].1, Password::Hash(hash) if hash.starts_with("$argon2id$")));
    let rules = users[0].0.settings.identification.clone().unwrap();
    assert!(
        matches!(&rules[..], [IdentityRule::Header { name, .. }, IdentityRule::Envelope] if name == "X-AuthUser")
    );
    assert!(!format!("{users:?}").contains("\"secret\""));
}

#[test]
fn an_empty_file_asks_for_nothing() {
    let wanted = parse("# nothing\n", &BTreeMap::new(), &SettingsView::default()).unwrap();
    assert!(wanted.settings.is_empty() && wanted.password_users.is_empty() && wanted.dkim_keys.is_empty());
}

#[test]
fn whatever_is_in_the_file_it_answers() {
    // Cuts and swaps of a good file: no panic, and either settings or problems with lines that exist.
    let lines = GOOD.lines().count();
    for cut in (0..GOOD.len()).step_by(3).filter(|at| GOOD.is_char_boundary(*at)) {
        for text in [
            GOOD[..cut].to_owned(),
            GOOD[cut..].to_owned(),
            GOOD.replace(&GOOD[cut..(cut + 2).min(GOOD.len())], ""),
        ] {
            if let Err(problems) = parse(&text, &BTreeMap::new(), &SettingsView::default()) {
                assert!(problems.iter().all(|p| (1..=lines + 1).contains(&p.line)), "{problems:?}");
                assert!(!problems.is_empty());
            }
        }
    }
}
