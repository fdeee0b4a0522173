//! `docker-compose.yml` holds together: what it passes to mailweir is taken, what it names exists, and nothing is open or
//! told that should not be. That its processes carry mail is shown in `four_processes`.

use std::collections::BTreeSet;
use std::process::Command;

use clap::{CommandFactory, Parser};
use mailweir::cli::Arguments;
use mailweir::roles::Role;
use mailweir_tests::compose::Compose;
use mailweir_tests::mailweir::Mailweir;

#[test]
fn it_has_every_role_and_two_of_those_that_carry_mail() {
    let compose = Compose::load();
    for (role, wanted) in [("ingress", 2), ("scorer", 2), ("delivery", 2), ("reporter", 1), ("control", 1)] {
        let is_it = |service: &&mailweir_tests::compose::Service<'_>| {
            service.list("command") == ["run", "--only", role]
        };
        assert_eq!(compose.processes().iter().filter(is_it).count(), wanted, "{role}");
        assert!(role.parse::<Role>().is_ok());
    }
    let images: Vec<_> = compose.services().iter().map(|s| s.value["image"].as_str().unwrap_or("")).collect();
    let brokers = images.iter().filter(|image| image.starts_with("apache/kafka:4.")).count();
    assert_eq!((compose.processes().len(), brokers), (8, 3));
    for image in ["clickhouse/clickhouse-server:26.7", "dovecot/dovecot:"] {
        assert_eq!(images.iter().filter(|name| name.starts_with(image)).count(), 1, "{image}");
    }
}

#[test]
fn mailweir_takes_every_command_variable_and_configuration() {
    let compose = Compose::load();
    let directory = tempfile::tempdir().expect("a directory");
    let secrets = compose.make_secrets(&directory.path().join("secrets"));
    let mut nodes = BTreeSet::new();
    for process in compose.processes() {
        let command = [vec!["mailweir"], process.list("command")].concat();
        Arguments::try_parse_from(&command).unwrap_or_else(|error| panic!("{}: {error}", process.name));
        for variable in variables(process.value) {
            assert!(known_variables().contains(&variable), "{}: {variable}", process.name);
        }
        let file = directory.path().join(format!("{}.toml", process.name));
        let config = process.config(&compose, &secrets, directory.path());
        std::fs::write(&file, &config).expect("the configuration");
        let check = Command::new(Mailweir::binary())
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("mailweir");
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success() && !config.contains("/run/secrets"), "{}: {said}", process.name);
        // Slots and lanes are named after nodes, and settings name the nodes of egress sources.
        assert!(config.contains(&format!("node = \"{}\"\n", process.name)), "{}", process.name);
        assert!(nodes.insert(process.name));
        assert!(config.contains("bind = \"0.0.0.0:8025\""), "{}: health is asked there", process.name);
    }
    // Who is asked for health in the image's way has the control socket; everybody here is asked over HTTP.
    assert!(compose.processes().iter().all(|process| process.value["healthcheck"]["test"].is_sequence()));
}

/// Names of environment variables, in either way of writing them.
fn variables(service: &serde_yaml_ng::Value) -> Vec<String> {
    let environment = &service["environment"];
    let names = environment.as_mapping().into_iter().flat_map(|map| map.keys());
    let lines = environment.as_sequence().into_iter().flatten();
    let name = |value: &serde_yaml_ng::Value| {
        value.as_str().and_then(|text| text.split('=').next()).map(str::to_owned)
    };
    names.chain(lines).filter_map(name).collect()
}

/// Variables that the command line reads.
fn known_variables() -> BTreeSet<String> {
    let command = Arguments::command();
    let all = command.get_subcommands().chain([&command]).flat_map(clap::Command::get_arguments);
    all.filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned)).collect()
}

#[test]
fn every_file_and_name_exists() {
    let compose = Compose::load();
    let names: Vec<&str> = compose.services().iter().map(|service| service.name).collect();
    let is_declared =
        |kind: &str, name: &str| compose.file[kind].as_mapping().is_some_and(|m| m.contains_key(name));
    for service in compose.services() {
        for (file, _) in service.mounted_files() {
            assert!(compose.root.join(file).is_file(), "{}: {file}", service.name);
        }
        for volume in service.list("volumes").iter().filter(|volume| !volume.starts_with("./")) {
            let name = volume.split(':').next().unwrap_or_default();
            assert!(is_declared("volumes", name), "{}: {volume}", service.name);
        }
        for (secret, _) in service.secrets() {
            assert!(is_declared("secrets", secret), "{}: {secret}", service.name);
        }
        let networks = &service.value["networks"];
        let named = networks.as_mapping().into_iter().flat_map(|map| map.keys());
        for network in named.chain(networks.as_sequence().into_iter().flatten()) {
            assert!(network.as_str().is_some_and(|name| is_declared("networks", name)), "{network:?}");
        }
        for other in service.value["depends_on"].as_mapping().into_iter().flat_map(|map| map.keys()) {
            assert!(other.as_str().is_some_and(|name| names.contains(&name)), "{}: {other:?}", service.name);
        }
        if let Some(dockerfile) = service.value["build"]["dockerfile"].as_str() {
            assert!(compose.root.join(dockerfile).is_file(), "{dockerfile}");
        }
        assert!(!service.value["healthcheck"].is_null() && service.value["restart"] == "unless-stopped");
    }
}

#[test]
fn only_mail_is_open_to_others_and_metrics_to_this_machine() {
    let compose = Compose::load();
    for service in compose.services() {
        for port in service.list("ports") {
            let is_ingress = service.list("command").contains(&"ingress");
            let parts: Vec<&str> = port.split(':').collect();
            let allowed = match parts[..] {
                ["127.0.0.1", _, "8025"] => service.value["image"] == "mailweir",
                ["0.0.0.0", _, "587" | "465"] => is_ingress,
                _ => false,
            };
            assert!(allowed, "{} publishes {port}", service.name);
        }
        for key in ["network_mode", "privileged", "expose"] {
            assert!(service.value[key].is_null(), "{}: {key}", service.name);
        }
    }
    // What is not Mailweir is in the network without a way in or out, and nowhere else.
    assert_eq!(compose.file["networks"]["inside"]["internal"], true);
    for service in compose.services().iter().filter(|service| service.value["image"] != "mailweir") {
        assert_eq!(service.list("networks"), ["inside"], "{}", service.name);
    }
}

#[test]
fn no_secret_stands_in_a_file_of_the_repository() {
    let compose = Compose::load();
    let directory = compose.root.join("packaging/compose");
    let mut texts = vec![std::fs::read_to_string(compose.root.join("docker-compose.yml")).expect("the file")];
    for entry in std::fs::read_dir(directory).expect("its files").flatten().filter(|e| e.path().is_file()) {
        if entry.file_name() != "make-secrets" {
            texts.push(std::fs::read_to_string(entry.path()).expect("a file"));
        }
    }
    for line in texts.iter().flat_map(|text| text.lines()) {
        // A password may only be spoken of, or named as a file or a secret.
        let value = line.split('#').next().unwrap_or_default();
        let told = ["password", "PASSWORD", "PRIVATE KEY", "token"].iter().any(|word| value.contains(word));
        assert!(!told || value.contains("/run/secrets/") || value.contains("clickhouse_password"), "{line}");
    }
    for ignore in [".gitignore", ".dockerignore"] {
        let text = std::fs::read_to_string(compose.root.join(ignore)).expect("a list");
        assert!(text.contains("packaging/compose/secrets"), "{ignore}");
    }
    assert!(compose.file["services"].as_mapping().is_some_and(|all| all.len() == 13));
}
