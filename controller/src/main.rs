//! The one binary of the unprivileged side: the operator's command, and the daemon.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    airlock::cli::run()
}
