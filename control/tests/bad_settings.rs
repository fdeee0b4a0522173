//! Broken settings files: each `bad_settings/NAME.toml` has its errors in `NAME.expected`. To see what changed after a
//! message was reworded, run with `UPDATE_EXPECTED=1` and look at the difference.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what is wrong by panicking

use std::path::{Path, PathBuf};

use control::Error;
use control::api::SettingsFile;
use schemas::settings::SettingsView;

#[test]
fn every_mistake_is_told_with_its_key_its_line_and_the_fix() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_settings");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 12);
    let different: Vec<String> = files.iter().filter_map(|path| difference(path)).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn difference(path: &Path) -> Option<String> {
    let file = SettingsFile::load(path).unwrap();
    let problems = control::settings_file::parse(&file.text, &file.key_files, &SettingsView::default())
        .expect_err(&format!("{} was taken", path.display()));
    let found = format!("{}\n", Error::Settings(problems));
    let beside = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&beside, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&beside).unwrap_or_default();
    (found != expected).then(|| format!("{}:\n{found}--- expected:\n{expected}", path.display()))
}
