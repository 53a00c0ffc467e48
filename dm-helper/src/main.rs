//! `airlock-dm-broker`: started by the launcher, never by hand.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use airlock_dm_helper::{startup, teardown};
use airlock_policy::told::chain;

fn main() -> ExitCode {
    // Started by a descriptor, the process would be listed under that descriptor's number.
    rustix::thread::set_name(c"airlock-broker").ok();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let down = match *words {
        ["--take-down", "dry-run"] => teardown::run(true, say),
        ["--take-down", "now"] => teardown::run(false, say),
        _ => {
            let Err(failure) = startup::run(arguments.into_iter());
            say(&format!("did not start: {}", chain(&failure)));
            return ExitCode::FAILURE;
        }
    };
    match down {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&chain(&failure));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Nobody to tell when stderr is gone.
    drop(writeln!(std::io::stderr(), "airlock-dm-broker: {line}"));
}
