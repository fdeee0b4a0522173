//! What the settings file lets switch is what the scorer checks: no worker imports another, so it is compared here.

use std::collections::BTreeSet;

use control::settings_file::SWITCHABLE;
use scorer::checks::{ASKED, CHECKS};

#[test]
fn every_check_can_be_switched_and_nothing_else() {
    let checks = CHECKS.iter().map(|check| check.classification.code());
    let asked = ASKED.iter().map(|asked| asked.code());
    // The score of all findings together is no check.
    let checks: BTreeSet<&str> = checks.chain(asked).chain(["spam"]).collect();
    assert_eq!(SWITCHABLE.into_iter().collect::<BTreeSet<_>>(), checks);
}
