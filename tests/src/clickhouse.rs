//! A real ClickHouse on loopback: `tests/clickhouse/serve.py`, which ends with this process.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{ports, wait};

/// A server over HTTP.
pub struct ClickHouse {
    pub port: u16,
    process: Child,
    _directory: TempDir,
}

impl ClickHouse {
    /// `users`: a file of users as the server reads one beside its own.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(users: &Path) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clickhouse");
        let engine = Command::new(scripts.join("get")).output().expect("tests/clickhouse/get");
        assert!(engine.status.success(), "{}", String::from_utf8_lossy(&engine.stderr));
        let engine = String::from_utf8_lossy(&engine.stdout).trim().to_owned();
        let directory =
            tempfile::Builder::new().prefix("mailweir-clickhouse-").tempdir().expect("a directory");
        // A server merges the file with its own, which has these.
        let own = "<profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>\
                   <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>";
        let users = std::fs::read_to_string(users).expect("the users").replace("<users>", own);
        std::fs::write(directory.path().join("users.xml"), users).expect("the users' file");
        std::fs::copy(scripts.join("config.xml"), directory.path().join("config.xml"))
            .expect("its configuration");
        let port = ports::free();
        let process = Command::new("python3")
            .arg(scripts.join("serve.py"))
            .arg(engine)
            .arg("--path")
            .arg(directory.path().join("data"))
            .arg("--http_port")
            .arg(port.to_string())
            .arg("--config-file")
            .arg(directory.path().join("config.xml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        wait::for_port(port);
        ClickHouse { port, process, _directory: directory }
    }
}

impl ClickHouse {
    /// `STOP`, so that nobody is answered, and `CONT`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().expect("kill");
        assert!(status.success(), "kill -s {name}");
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        // The end of its input is its end.
        self.process.stdin = None;
        let _ = self.process.wait();
    }
}
