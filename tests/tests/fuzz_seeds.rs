//! The seeds of the fuzz targets, and every golden record, through the same entries on stable Rust.

#[path = "../../fuzz/src/entries.rs"]
mod entries;

use std::path::{Path, PathBuf};

const TARGETS: [&str; 6] = ["command", "content", "event", "header", "proxy", "unstuff"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn replay(target: &str, path: &Path) {
    let data = std::fs::read(path).expect("a seed can be read");
    // Says which seed it was; the test's output is shown when it fails.
    println!("{target}: {}", path.display());
    assert!(entries::run(target, &data), "there is no target {target}");
    // and cut short, as a connection may be
    for cut in [data.len() / 3, data.len().saturating_sub(1)] {
        entries::run(target, &data[..cut]);
    }
}

#[test]
fn every_seed_passes() {
    for target in TARGETS {
        let seeds = files(&root().join("fuzz/seeds").join(target));
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        seeds.iter().for_each(|seed| replay(target, seed));
    }
}

#[test]
fn every_golden_record_passes() {
    let golden = files(&root().join("schemas/golden"));
    assert!(golden.len() >= 40, "{} files", golden.len());
    golden.iter().for_each(|record| replay("event", record));
}

/// A target that is added to `fuzz/` is replayed here, too.
#[test]
fn no_target_is_left_out() {
    let names = files(&root().join("fuzz/targets"));
    let stems: Vec<_> = names.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    assert_eq!(stems, TARGETS);
}
