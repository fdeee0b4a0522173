//! A real name server (NSD) on loopback, serving the zones of a test.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{ports, wait};

/// NSD with its zones.
pub struct NameServer {
    pub port: u16,
    directory: TempDir,
    process: Child,
}

impl NameServer {
    /// Serves `zones`: name and records (zone file lines; SOA and NS are added).
    ///
    /// # Panics
    /// When NSD cannot be started: run tests/install.
    #[must_use]
    pub fn start(zones: &[(&str, String)]) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-nsd-").tempdir().expect("a directory");
        let port = ports::free();
        let path = directory.path();
        let mut config = format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{0}\"\n  database: \"\"\n  pidfile: \"{0}/nsd.pid\"\n  \
             xfrdfile: \"{0}/xfrd\"\n  zonelistfile: \"{0}/zone.list\"\n  cookie-secret-file: \"{0}/cookie\"\n  xfrdir: \"{0}\"\n  verbosity: 0\n  server-count: 1\nremote-control:\n  control-enable: no\n",
            path.display()
        );
        for (name, records) in zones {
            let zone = format!(
                "$ORIGIN {name}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n{records}\n"
            );
            std::fs::write(path.join(format!("{name}.zone")), zone).expect("the zone");
            config.push_str(&format!("zone:\n  name: \"{name}\"\n  zonefile: \"{name}.zone\"\n"));
        }
        std::fs::write(path.join("nsd.conf"), config).expect("nsd.conf");
        let process = Command::new("nsd")
            .arg("-d")
            .arg("-c")
            .arg(path.join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsd is installed (tests/install)");
        wait::for_port(port);
        NameServer { port, directory, process }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // NSD's children end with it on SIGTERM.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
