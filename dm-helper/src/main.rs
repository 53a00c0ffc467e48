//! `airlock-dm-broker`: started by the launcher, never by hand.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write as _;
use std::iter;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Started by a descriptor, the process would be listed under that descriptor's number.
    rustix::thread::set_name(c"airlock-broker").ok();
    let Err(failure) = airlock_dm_helper::startup::run(std::env::args().skip(1));
    let mut text = "airlock-dm-broker: did not start".to_owned();
    let first: &dyn Error = &failure;
    let causes = iter::successors(Some(first), |error| Error::source(*error));
    for cause in causes {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text.push('\n');
    // Nobody to tell when stderr is gone.
    drop(std::io::stderr().write_all(text.as_bytes()));
    ExitCode::FAILURE
}
