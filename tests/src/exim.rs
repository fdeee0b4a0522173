//! Real Exim as a client, with the header fields that cPanel's configuration adds.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait;

/// Exim with configuration and spool of its own; it is unpacked beside the machine's files (tests/install).
pub struct Exim {
    directory: TempDir,
    binary: std::path::PathBuf,
}

impl Exim {
    /// Relays everything to Mailweir at `port`, known by its address. Every message gets cPanel's fields for the account
    /// that sends it: `X-Get-Message-Sender-Via`, `X-Authenticated-Sender`. Its bounces return the header section.
    ///
    /// # Panics
    /// When Exim is not there: run tests/install.
    #[must_use]
    pub fn cpanel(port: u16) -> Self {
        let peers = std::env::var("MAILWEIR_PEERS").unwrap_or_else(|_| "/var/tmp/mailweir-peers".to_owned());
        let binary = std::path::PathBuf::from(peers).join("exim/usr/sbin/exim4");
        assert!(binary.exists(), "{} is missing: run tests/install", binary.display());
        let directory = tempfile::Builder::new().prefix("mailweir-exim-").tempdir().expect("a directory");
        let path = directory.path();
        let config = format!(
            "exim_user = Debian-exim\nexim_group = Debian-exim\nnever_users =\nexim_path = {1}\nspool_directory = {0}/spool\nlog_file_path = {0}/%slog\nprimary_hostname = server7.hoster.example\nqualify_domain = hoster.example\n\
             keep_environment =\nbounce_return_body = false\nlocal_from_check = false\nuntrusted_set_sender = *\ntrusted_users = root\nhost_lookup =\ntls_advertise_hosts =\n\
             begin routers\nsmarthost:\n  driver = manualroute\n  transport = to_mailweir\n  route_list = * 127.0.0.1::{port}\n  self = send\n\
             begin transports\nto_mailweir:\n  driver = smtp\n  port = {port}\n  allow_localhost\n  hosts_try_fastopen =\n  \
             headers_add = \"X-Get-Message-Sender-Via: server7.hoster.example: authenticated_id: $sender_address\\nX-Authenticated-Sender: server7.hoster.example: $sender_address\"\n\
             begin retry\n* * F,1h,2s\n",
            path.display(),
            binary.display()
        );
        std::fs::create_dir(path.join("spool")).expect("the spool");
        std::fs::write(path.join("exim.conf"), config).expect("exim.conf");
        // Exim gives up root before it delivers, and writes its log and spool as its own user.
        let owned = Command::new("chown").arg("-R").arg("Debian-exim:Debian-exim").arg(path).status();
        assert!(
            owned.is_ok_and(|status| status.success()),
            "the tests run as root, with the users that tests/install makes"
        );
        let root = Command::new("chown").arg("root").arg(path.join("exim.conf")).status();
        assert!(root.is_ok_and(|status| status.success()), "exim.conf must be root's");
        Exim { directory, binary }
    }

    /// Gives Exim a message to send now; its own queue id.
    ///
    /// # Panics
    /// When Exim does not take it.
    #[must_use]
    pub fn send(&self, from: &str, to: &str, message: &[u8]) -> String {
        use std::io::Write;
        let mut child = Command::new(&self.binary)
            .arg("-C")
            .arg(self.directory.path().join("exim.conf"))
            .args(["-odf", "-oi", "-f", from, to])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("exim");
        child.stdin.take().expect("its input").write_all(message).expect("the message");
        let output = child.wait_with_output().expect("exim ends");
        let log = wait::until("Exim logs the message", Duration::from_secs(10), || {
            Some(self.log()).filter(|log| log.contains(" <= "))
        });
        let line = log.lines().rev().find(|line| line.contains(" <= ") && line.contains(from));
        let id = line.and_then(|line| line.split_whitespace().nth(2));
        id.unwrap_or_else(|| panic!("Exim took nothing: {}\n{log}", String::from_utf8_lossy(&output.stderr)))
            .to_owned()
    }

    /// Tries what is in its queue again, whether it is time for it or not, and waits until that is done.
    ///
    /// # Panics
    /// When Exim cannot be run.
    pub fn run_queue(&self) {
        let config = self.directory.path().join("exim.conf");
        let status = Command::new(&self.binary).arg("-C").arg(config).arg("-qff").status().expect("exim");
        assert!(status.success(), "{}", self.log());
    }

    /// Its main log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("mainlog")).unwrap_or_default()
    }
}
