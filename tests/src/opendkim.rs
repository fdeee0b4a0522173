//! Real OpenDKIM, as the milter of a receiving Postfix: it verifies, and writes what it found into Authentication-Results.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::dns::NameServer;
use crate::wait;

/// OpenDKIM with configuration of its own.
pub struct OpenDkim {
    process: Child,
    /// Removed at the end.
    _directory: TempDir,
}

impl OpenDkim {
    /// Verifies what comes in over `port`, with the keys that `names` serves for `domain`.
    ///
    /// # Panics
    /// When it cannot be started: run tests/install.
    #[must_use]
    pub fn verifier(port: u16, names: &NameServer, domain: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-opendkim-").tempdir().expect("a directory");
        let path = directory.path();
        // Its resolver is libunbound, which asks nobody on loopback unless told to.
        let resolver = format!(
            "server:\n  do-not-query-localhost: no\n  module-config: \"iterator\"\n  username: \"\"\n  chroot: \"\"\n\
             stub-zone:\n  name: \"{domain}\"\n  stub-addr: 127.0.0.1@{}\n",
            names.port
        );
        std::fs::write(path.join("unbound.conf"), resolver).expect("unbound.conf");
        // InternalHosts: mail of what it believes to be its own network, loopback by default, would not be verified.
        let config = format!(
            "Mode v\nSocket inet:{port}@127.0.0.1\nInternalHosts 192.0.2.1\nAuthservID mx.receiver.example\nAlwaysAddARHeader yes\n\
             ResolverConfiguration {0}/unbound.conf\nPidFile {0}/opendkim.pid\nSyslog no\n",
            path.display()
        );
        std::fs::write(path.join("opendkim.conf"), config).expect("opendkim.conf");
        let process = Command::new("opendkim")
            .arg("-f")
            .arg("-x")
            .arg(path.join("opendkim.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("opendkim is installed (tests/install)");
        wait::for_port(port);
        OpenDkim { process, _directory: directory }
    }
}

impl Drop for OpenDkim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
