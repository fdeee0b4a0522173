//! The `mailweir` command.

use clap::Parser;

fn main() -> std::process::ExitCode {
    mailweir::cli::main(mailweir::cli::Arguments::parse())
}
