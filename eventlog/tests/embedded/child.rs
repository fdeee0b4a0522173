//! The test executable as a process of its own: it runs one ignored test of itself.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The directory a child works in.
const DIRECTORY: &str = "EVENTLOG_TEST_DIRECTORY";
const ROUND: &str = "EVENTLOG_TEST_ROUND";

/// How to start `test` of this executable on a directory. `program`: a shell line that ends in `exec "$0" "$@"`, or none.
pub fn command(test: &str, directory: &Path, round: u32, program: Option<&str>) -> Command {
    let executable = std::env::current_exe().expect("this executable");
    let arguments: [&OsStr; 5] =
        [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"].map(OsStr::new);
    let mut command = match program {
        None => Command::new(executable),
        Some(line) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(line).arg(executable);
            shell
        }
    };
    command.args(arguments).env(DIRECTORY, directory).env(ROUND, round.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// In the child: the directory and round it was started with; none when somebody runs ignored tests by hand.
pub fn task() -> Option<(std::path::PathBuf, u32)> {
    let directory = std::env::var_os(DIRECTORY)?.into();
    let round = std::env::var(ROUND).ok()?.parse().ok()?;
    Some((directory, round))
}
