//! Every file of `bad_configs/` is refused with the text that stands beside it.

use std::path::Path;

use mailweir::config::Config;

#[test]
fn every_mistake_is_named_with_its_key_and_its_fix() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(&directory).expect("the fixtures").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).expect("a fixture");
        let name = path.file_name().map(Path::new).expect("a name");
        let said = match Config::parse(name, &text) {
            Ok(_) => panic!("{} was taken", path.display()),
            Err(error) => error.to_string(),
        };
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        assert_eq!(said.trim(), expected.trim(), "{}", path.display());
    }
    assert!(seen >= 8, "the fixtures are there");
}
