//! Real Postfix: as a client of Mailweir, and as the server that receives from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{certificate, ports, wait};

/// A Postfix instance with configuration, queue and log of its own.
pub struct Postfix {
    pub port: u16,
    directory: TempDir,
}

impl Postfix {
    /// Takes mail for `domains` into mailboxes, each message a file; `users` exist, others get 550. Offers TLS. Mail to
    /// `slow@` is deferred by policy the first time (greylisting by a restriction table is not needed: see `defer_once`).
    ///
    /// # Panics
    /// When it cannot be started: run tests/install.
    #[must_use]
    pub fn receiver(domains: &[&str], users: &[&str]) -> Self {
        Self::receiver_with(domains, users, "")
    }

    /// The same with lines of main.cf of one's own.
    ///
    /// # Panics
    /// As `receiver`.
    #[must_use]
    pub fn receiver_with(domains: &[&str], users: &[&str], extra: &str) -> Self {
        let postfix = Self::prepare();
        let directory = postfix.directory.path();
        let (cert, key) = certificate::make(directory, "mx.receiver.example");
        let mail = directory.join("mail");
        std::fs::create_dir(&mail).expect("the mailboxes");
        own_by(&mail, "nobody");
        let map: String = users.iter().map(|user| format!("{user} {user}/\n")).collect();
        std::fs::write(directory.join("mailboxes"), map).expect("the mailboxes' table");
        postfix.start(&format!(
            "mydestination =\nvirtual_mailbox_domains = {}\nvirtual_mailbox_base = {}\nvirtual_mailbox_maps = texthash:{}\nvirtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\n\
             smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_security_level = may\nsmtpd_tls_received_header = yes\n{extra}",
            domains.join(" "),
            mail.display(),
            directory.join("mailboxes").display(),
            cert.display(),
            key.display(),
        ));
        postfix
    }

    /// Relays everything to Mailweir at `port`. With a login it uses AUTH over STARTTLS, else it is known by its address.
    ///
    /// # Panics
    /// As `receiver`.
    #[must_use]
    pub fn client(port: u16, login: Option<(&str, &str)>) -> Self {
        Self::client_with(port, login, "")
    }

    /// The same with lines of main.cf of one's own.
    ///
    /// # Panics
    /// As `receiver`.
    #[must_use]
    pub fn client_with(port: u16, login: Option<(&str, &str)>, extra: &str) -> Self {
        let postfix = Self::prepare();
        let directory = postfix.directory.path();
        let mut config = format!(
            "mydestination =\nrelayhost = [127.0.0.1]:{port}\ndisable_dns_lookups = yes\nsmtp_destination_concurrency_limit = 5\n{extra}"
        );
        if let Some((login, password)) = login {
            let passwords = directory.join("passwords");
            std::fs::write(&passwords, format!("[127.0.0.1]:{port} {login}:{password}\n"))
                .expect("the passwords");
            config.push_str(&format!(
                "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:{}\nsmtp_sasl_security_options = noanonymous\nsmtp_tls_security_level = encrypt\n",
                passwords.display()
            ));
        }
        postfix.start(&config);
        postfix
    }

    /// The certificate of a receiver, signed by itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("mx.receiver.example.pem")
    }

    fn prepare() -> Self {
        let directory = tempfile::Builder::new().prefix("mailweir-postfix-").tempdir().expect("a directory");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
        Postfix { port: ports::free(), directory }
    }

    fn start(&self, extra: &str) {
        let directory = self.directory.path();
        for name in ["etc", "spool", "lib"] {
            std::fs::create_dir(directory.join(name)).expect("a directory");
        }
        own_by(&directory.join("lib"), "postfix");
        let d = directory.display();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {d}/spool\ndata_directory = {d}/lib\nmaillog_file = {d}/postfix.log\nmaillog_file_prefixes = {d}\nmyhostname = mail.client.example\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nsmtpd_peername_lookup = no\nalias_maps =\nmessage_size_limit = 60000000\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\n\
             minimal_backoff_time = 2s\nmaximal_backoff_time = 4s\nqueue_run_delay = 2s\n{extra}"
        );
        std::fs::write(directory.join("etc/main.cf"), main).expect("main.cf");
        std::fs::write(directory.join("etc/dynamicmaps.cf"), "").expect("dynamicmaps.cf");
        let master = std::fs::read_to_string("/usr/share/postfix/master.cf.dist")
            .expect("Postfix is installed (tests/install)");
        let port = self.port;
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields[..] {
                ["smtp", "inet", ..] => format!("127.0.0.1:{port} inet n - n - - smtpd"),
                // No chroot: the instance's directory has none.
                [name, kind, private, unprivileged, "y", ..] if !line.starts_with(['#', ' ']) => {
                    format!("{name} {kind} {private} {unprivileged} n {}", fields[5..].join(" "))
                }
                _ => line.to_owned(),
            }
        };
        let master: Vec<String> = master.lines().map(line).collect();
        std::fs::write(directory.join("etc/master.cf"), master.join("\n") + "\n").expect("master.cf");
        let status = self.control("start");
        assert!(status, "postfix does not start:\n{}", self.log());
        wait::for_port(self.port);
    }

    fn control(&self, verb: &str) -> bool {
        let mut command = Command::new("postfix");
        command
            .arg("-c")
            .arg(self.directory.path().join("etc"))
            .arg(verb)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("postfix.log")).unwrap_or_default()
    }

    /// Waits until its log has a line with all these words.
    ///
    /// # Panics
    /// When it has not within a minute.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        wait::until(&format!("Postfix logs {words:?}"), Duration::from_secs(60), || {
            self.log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }

    /// Messages that have arrived for a user.
    #[must_use]
    pub fn mailbox(&self, user: &str) -> Vec<Vec<u8>> {
        let new = self.directory.path().join("mail").join(user).join("new");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(new).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
    }

    /// Waits until a user has this many messages.
    ///
    /// # Panics
    /// When it has not within a minute.
    pub fn wait_for_mail(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        wait::until(&format!("{user} has {count} messages"), Duration::from_secs(60), || {
            let mail = self.mailbox(user);
            (mail.len() >= count).then_some(mail)
        })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- Postfix' log ends with\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        self.control("abort");
    }
}

fn own_by(path: &Path, user: &str) {
    let status = Command::new("chown").arg(user).arg(path).status();
    assert!(
        status.is_ok_and(|s| s.success()),
        "{} cannot be given to {user}: the tests run as root",
        path.display()
    );
}
