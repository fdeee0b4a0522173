//! One of the processes of a cluster: some roles of a node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::mailweir::Mailweir;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(120);

/// A process with some of the roles.
pub struct Process {
    pub roles: &'static str,
    config: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Writes its configuration and starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(directory: &Path, config: &str, roles: &'static str) -> Self {
        let path = directory.join(format!("{roles}.toml"));
        std::fs::write(&path, config).expect("the configuration");
        let log = directory.join(format!("{roles}.log"));
        let child = Self::spawn(roles, &path, &log);
        Process { roles, config: path, log, child }
    }

    /// What it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn spawn(roles: &str, config: &Path, log: &Path) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("its log");
        Command::new(Mailweir::binary())
            .args(["run", "--only", roles, "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mailweir starts")
    }

    /// Runs a verb of the command against this process.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn verb(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(Mailweir::binary());
        command.args(arguments).arg("--config").arg(&self.config).output().expect("mailweir")
    }

    /// `kill -9`, and up again.
    pub fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Up again after it ended.
    pub fn start_again(&mut self) {
        self.child = Self::spawn(self.roles, &self.config, &self.log);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `SIGSTOP`, `SIGCONT`: by name, without `SIG`.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success(), "kill -s {name}");
    }

    /// `SIGTERM`; the exit status.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> Option<i32> {
        Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        self.wait_for_end()
    }

    /// The exit status of one that ends by itself.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        wait::until("it stops", PATIENCE, || self.child.try_wait().ok().flatten()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.logged();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- {} ends with\n{}", self.roles, lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}
