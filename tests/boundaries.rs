//! The import rule of ARCHITECTURE.md, checked against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate may import of ours. The root package and `mailweir-tests` may import everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("eventlog", &["schemas"]),
    ("ingress", &["schemas", "eventlog"]),
    ("scorer", &["schemas", "eventlog"]),
    ("delivery", &["schemas", "eventlog"]),
    ("reporter", &["schemas", "eventlog"]),
    ("control", &["schemas", "eventlog"]),
];

/// Names that say nothing of what is inside.
const NO_SUCH_NAMES: &[&str] = &["common", "util", "utils", "helper", "helpers", "core", "misc"];

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let ours = dependencies.iter().filter_map(|d| d["name"].as_str()).filter(|d| names.contains(d));
            (package["name"].as_str().expect("name").to_owned(), ours.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn no_worker_imports_another() {
    let imports = imports();
    for (package, allowed) in ALLOWED {
        let actual = imports.get(*package).unwrap_or_else(|| panic!("there is no crate {package}"));
        let unexpected: Vec<_> = actual.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(unexpected.is_empty(), "{package} imports {unexpected:?}: it may only import {allowed:?}");
    }
    let known: BTreeSet<&str> =
        ALLOWED.iter().map(|(name, _)| *name).chain(["mailweir", "mailweir-tests"]).collect();
    let unknown: Vec<_> = imports.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} must be entered in the import rule");
}

#[test]
fn every_room_has_a_telling_name() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut rooms = vec![root.join("src")];
    rooms.extend(ALLOWED.iter().map(|(name, _)| root.join(name).join("src")));
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(&room).unwrap_or_else(|e| panic!("{}: {e}", room.display())) {
            let path = entry.expect("directory entry").path();
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
            assert!(
                !NO_SUCH_NAMES.contains(&stem.as_str()),
                "{} says nothing of what is inside",
                path.display()
            );
            if path.is_dir() {
                rooms.push(path);
            }
        }
    }
}
