//! `docker-compose.yml`, read as Compose reads it, and its processes put where a test can run them: no container, but the
//! same commands and the same configuration, with paths and addresses of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml_ng::Value;

/// The user who may send, in the settings of the cluster.
const CLIENT: &str = "172.30.0.200";

/// The file, with what `<<` merges in its place.
pub struct Compose {
    pub root: PathBuf,
    pub file: Value,
}

/// A service of it.
pub struct Service<'a> {
    pub name: &'a str,
    pub value: &'a Value,
}

impl Compose {
    /// # Panics
    /// When it does not parse.
    #[must_use]
    pub fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("docker-compose.yml")).expect("docker-compose.yml");
        let mut file: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        file.apply_merge().expect("its merges");
        Compose { root, file }
    }

    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn services(&self) -> Vec<Service<'_>> {
        let services = self.file["services"].as_mapping().expect("services");
        services.iter().map(|(name, value)| Service { name: name.as_str().expect("a name"), value }).collect()
    }

    /// Those that are Mailweir.
    #[must_use]
    pub fn processes(&self) -> Vec<Service<'_>> {
        self.services().into_iter().filter(|service| service.value["image"] == "mailweir").collect()
    }

    /// Makes the secrets with the script that the file names, and says where each of them is.
    ///
    /// # Panics
    /// When one that is named is not made.
    #[must_use]
    pub fn make_secrets(&self, directory: &Path) -> Vec<(String, PathBuf)> {
        let made = Command::new(self.root.join("packaging/compose/make-secrets")).arg(directory).output();
        assert!(made.expect("make-secrets").status.success(), "make-secrets needs openssl");
        let secrets = self.file["secrets"].as_mapping().expect("secrets");
        let place = |(name, secret): (&Value, &Value)| {
            let file = secret["file"].as_str().expect("a secret is a file");
            let file = file.strip_prefix("./packaging/compose/secrets/").expect("where make-secrets puts it");
            let path = directory.join(file);
            assert!(path.is_file(), "make-secrets makes {file}");
            (name.as_str().expect("a name").to_owned(), path)
        };
        secrets.iter().map(place).collect()
    }

    /// The settings that the control process is given, for a client and egress addresses on loopback.
    ///
    /// # Panics
    /// When they are not as this expects.
    #[must_use]
    pub fn settings(&self) -> String {
        let path = self.root.join("packaging/compose/settings.toml");
        let text = std::fs::read_to_string(path).expect("the settings");
        assert!(text.contains(CLIENT), "a client to try it with");
        let text = text.replace(CLIENT, "127.0.0.1");
        text.replace("172.30.1.10", "127.0.0.11").replace("172.30.2.10", "127.0.0.12")
    }
}

impl<'a> Service<'a> {
    /// What stands under a key, as a list of texts; empty where there is nothing.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<&'a str> {
        self.value[key].as_sequence().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Files of the repository that it mounts, and where.
    #[must_use]
    pub fn mounted_files(&self) -> Vec<(&'a str, &'a str)> {
        let parts = |volume: &'a str| {
            let mut parts = volume.split(':');
            parts.next().zip(parts.next()).filter(|(from, _)| from.starts_with("./"))
        };
        self.list("volumes").into_iter().filter_map(parts).collect()
    }

    /// Secrets that it is given, by name and the path it finds them at.
    ///
    /// # Panics
    /// When one is written in a way that this does not know.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'a str, String)> {
        let secret = |secret: &'a Value| match secret {
            Value::String(name) => (name.as_str(), format!("/run/secrets/{name}")),
            long => {
                let target = long["target"].as_str().expect("a target");
                (long["source"].as_str().expect("a source"), target.to_owned())
            }
        };
        self.value["secrets"].as_sequence().into_iter().flatten().map(secret).collect()
    }

    /// Its configuration, with the secrets it is given and a data directory of the test. A secret that it names without
    /// being given it stays as it is, and is then missed.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn config(&self, compose: &Compose, secrets: &[(String, PathBuf)], data_dir: &Path) -> String {
        let files = self.mounted_files();
        let file =
            files.iter().find(|(_, at)| *at == "/etc/mailweir/mailweir.toml").expect("a configuration");
        let mut text = std::fs::read_to_string(compose.root.join(file.0)).expect("the configuration");
        for (name, at) in self.secrets() {
            let (_, path) = secrets.iter().find(|(secret, _)| secret == name).expect("a secret that is made");
            text = text.replace(&format!("\"{at}\""), &format!("\"{}\"", path.display()));
        }
        text.replace("\"/var/lib/mailweir\"", &format!("\"{}\"", data_dir.display()))
    }
}
