//! `airlock-dm-worker`: started by the launcher, never by hand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    airlock_dm_worker::run()
}
