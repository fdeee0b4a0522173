//! Which keys sign a message: one choice for who signs, and for who says beforehand what receivers will make of it.

use super::{DkimAlgorithm, DkimKey, SettingsView};
use crate::Domain;

/// The keys for a message: the From domain's own, else the outgoing domain's under the user's selector. RSA first, and one
/// of each kind: of the outgoing domain the one that the selector names, else the oldest. A newer one waits until its
/// record is published and the older one is removed.
#[must_use]
pub fn dkim_keys_for<'a>(
    settings: &'a SettingsView,
    header_from: Option<&Domain>,
    outgoing_domain: &Domain,
    selector: Option<&str>,
) -> Vec<&'a DkimKey> {
    let mut keys: Vec<&DkimKey> =
        header_from.map(|domain| settings.dkim_keys(domain).collect()).unwrap_or_default();
    if keys.is_empty()
        && let Some(selector) = selector
    {
        keys = settings.dkim_keys(outgoing_domain).filter(|key| key.selector == selector).collect();
    }
    let is_named = |key: &DkimKey| key.domain == *outgoing_domain && Some(&*key.selector) == selector;
    keys.sort_by_key(|key| {
        (matches!(key.algorithm, DkimAlgorithm::Ed25519Sha256), !is_named(key), key.created_at)
    });
    keys.dedup_by_key(|key| key.algorithm);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::settings::Setting;

    #[test]
    fn the_key_in_use_stays_until_it_is_removed_or_another_is_named() {
        let domain = |name: &str| Domain::parse(name).unwrap();
        let key = |selector: &str, algorithm, created_at: Option<i64>| DkimKey {
            domain: domain("a.example"),
            selector: selector.into(),
            algorithm,
            sealed_private_key: String::new(),
            public_key: String::new(),
            created_at: created_at.map(Timestamp),
        };
        let (rsa, ed) = (DkimAlgorithm::RsaSha256, DkimAlgorithm::Ed25519Sha256);
        let chosen = |keys: &[DkimKey], outgoing: &str, selector: Option<&str>| {
            let mut view = SettingsView::default();
            for key in keys {
                let setting = Setting::DkimKey(key.clone());
                let value = serde_json::to_vec(&setting).unwrap();
                view.apply(setting.key().as_bytes(), Some(&value), 1).unwrap();
            }
            let keys = dkim_keys_for(&view, Some(&domain("a.example")), &domain(outgoing), selector);
            keys.iter().map(|key| key.selector.clone()).collect::<Vec<_>>().join(" ")
        };
        for (old, new) in [("s1", "s2"), ("s2", "s1")] {
            for age in [None, Some(1)] {
                let keys = [key(old, rsa, age), key(new, rsa, Some(2)), key("e", ed, Some(3))];
                assert_eq!(chosen(&keys, "a.example", None), format!("{old} e"), "{age:?}");
                assert_eq!(chosen(&keys[1..], "a.example", None), format!("{new} e"), "the old one is gone");
                assert_eq!(chosen(&keys, "a.example", Some(new)), format!("{new} e"), "it is named");
                assert_eq!(chosen(&keys, "b.example", Some(new)), format!("{old} e"), "of another domain");
            }
        }
    }
}
