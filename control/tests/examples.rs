//! The settings file that ships as an example is one, as it is and with each of its examples switched on.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by panicking

use std::collections::BTreeMap;
use std::path::Path;

use control::settings_file;
use schemas::settings::SettingsView;

/// `#x` is an example that is switched off, `# x` is prose.
fn is_switched_off(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

fn problems(text: &str) -> Vec<String> {
    match settings_file::parse(text, &BTreeMap::new(), &SettingsView::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/settings.toml");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(problems(&text), [""; 0]);
    // A line that stands in place of another (a hash, a second set of rules) is tried without the one it replaces.
    let mut on = String::new();
    let mut count = 0;
    for line in text.lines() {
        if is_switched_off(line) {
            count += 1;
            let key = line[1..].split('=').next().unwrap().trim();
            let table = on.rfind("\n[").unwrap_or(0);
            if let Some(at) = on[table..].find(&format!("\n{key} =")) {
                let start = table + at + 1;
                let end = start + on[start..].find('\n').unwrap() + 1;
                on.replace_range(start..end, "");
            }
            if key == "password_hash" {
                continue;
            }
            on.push_str(&line[1..]);
        } else {
            on.push_str(line);
        }
        on.push('\n');
    }
    assert!(count > 20, "{count} examples");
    assert_eq!(problems(&on), [""; 0], "{on}");
}
