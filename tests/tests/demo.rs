//! The README's first command: `mailweir demo`, as a newcomer runs it.

use std::process::Command;
use std::time::{Duration, Instant};

use mailweir_tests::mailweir::Mailweir;

/// What the README promises.
const PROMISED: Duration = Duration::from_secs(60);

#[test]
fn the_demo_shows_every_kind_of_message_with_its_outcome() {
    let began = Instant::now();
    let output = Command::new(Mailweir::binary()).arg("demo").output().expect("mailweir starts");
    let took = began.elapsed();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);
    assert!(took < PROMISED, "it took {took:?}");
    // What was sent, messages, accepted, blocked, why, delivered, bounced.
    for row in [
        "a letter with umlauts 16 16 0 16 0",
        "already signed by the customer 16 16 0 16 0",
        "an order confirmation to two recipients 16 16 0 32 0",
        "from a blocked address 4 0 4 blocked_sender 0 0",
        "malformed: two Subject fields 4 0 4 duplicate_header 0 0",
        "spam from a hacked account 2 0 2 spam 0 0",
        "to a mailbox that does not exist 4 4 0 0 4",
        "to a receiver that first defers 16 16 0 16 0",
        "deferred and tried again: 16",
        "bounces (DSN) sent back: 4; feedback reports (ARF) to the abuse desk: 2",
        "Every message reached its one terminal outcome.",
    ] {
        let is_row = |line: &str| line.split_whitespace().eq(row.split_whitespace());
        assert!(shown.lines().any(is_row), "no line {row:?} in\n{shown}");
    }
    remove_what_it_made(&shown);
}

/// The demo leaves its directory for whoever wants to look, and says where.
fn remove_what_it_made(shown: &str) {
    let directory = shown.lines().find_map(|line| line.strip_prefix("Everything is under "));
    let directory = directory.and_then(|rest| rest.split(';').next()).expect("it says where everything is");
    std::fs::remove_dir_all(directory).expect("what the demo made");
}
