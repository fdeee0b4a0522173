//! The configuration that ships as an example passes `mailweir check`, as it is and with each of its examples switched on.

use std::path::Path;
use std::process::Command;

/// `#x` is an example that is switched off, `# x` is prose.
fn is_switched_off(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

/// The text with the examples switched on that are `wanted`, by their lines and whether they are of Kafka's. One that stands in
/// place of another key takes its place.
fn switched_on(text: &str, wanted: impl Fn(&str, bool) -> bool) -> String {
    let mut on = String::new();
    let mut of_kafka = false;
    for line in text.lines() {
        of_kafka = line.starts_with("#engine = \"kafka\"") || of_kafka && is_switched_off(line);
        if !is_switched_off(line) {
            on.push_str(line);
        } else if wanted(line, of_kafka) {
            let key = line[1..].split('=').next().unwrap_or_default().trim();
            let table = on.rfind("\n[").unwrap_or(0);
            if let Some(at) = on[table..].find(&format!("\n{key} =")) {
                let start = table + at + 1;
                let end = start + on[start..].find('\n').expect("lines end") + 1;
                on.replace_range(start..end, "");
            }
            on.push_str(&line[1..]);
        }
        on.push('\n');
    }
    on
}

/// Runs `mailweir check` on a text, with every file that it names there.
fn check(text: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let made = rcgen::generate_simple_self_signed(["smtp.hoster.example".to_owned()]).expect("a certificate");
    for name in ["cert.pem", "kafka-ca.pem", "kafka-client.pem"] {
        std::fs::write(at(name), made.cert.pem()).expect("a file");
    }
    for name in ["key.pem", "kafka-client.key"] {
        std::fs::write(at(name), made.signing_key.serialize_pem()).expect("a file");
    }
    for name in ["kafka.password", "clickhouse.password", "rspamd.password"] {
        std::fs::write(at(name), "secret\n").expect("a file");
    }
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("scorer/model/default.bin");
    std::fs::copy(model, at("model.bin")).expect("the model");
    let here = format!("\"{}", directory.path().display());
    let text = text.replace("\"/etc/mailweir", &here).replace("\"/var/lib/mailweir", &here);
    std::fs::write(at("mailweir.toml"), &text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_mailweir"))
        .args(["check", "--config"])
        .arg(at("mailweir.toml"))
        .output()
        .expect("mailweir");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_example_passes_with_all_that_it_shows() {
    let example = include_str!("../contrib/mailweir.toml");
    check(example);
    let count = std::cell::Cell::new(0);
    let counted = |wanted: bool| {
        count.set(count.get() + usize::from(wanted));
        wanted
    };
    check(&switched_on(example, |_, of_kafka| counted(!of_kafka)));
    assert!(count.get() > 30, "{} examples", count.get());
    check(&switched_on(example, |line, of_kafka| of_kafka || !line.starts_with("#min_free")));
}

#[test]
fn a_key_that_is_not_there_is_noticed() {
    let example = include_str!("../contrib/mailweir.toml").replace("#max_lag", "#max_leg");
    let on = switched_on(&example, |_, of_kafka| !of_kafka);
    assert!(on.contains("\nmax_leg = "), "the examples are switched on");
    assert!(mailweir::config::Config::parse(Path::new("x"), &on).is_err());
}
