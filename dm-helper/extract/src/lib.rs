//! The workers: one job in a volume, done by a process that can do nothing else.
//!
//! The launcher starts it with numbered descriptors and fixed arguments
//! ([`airlock_policy::worker`]); people never do. Each job begins by giving up all that it does
//! not need. A library, so that the tests' attackers stand in the very same confinement.
#![forbid(unsafe_code)]

/// Where a test may end this process (docs/decisions/0011-crash-points.md): nothing in what is shipped.
macro_rules! crash_point {
    ($point:ident) => {
        #[cfg(feature = "crash-points")]
        airlock_crash_points::at(airlock_crash_points::Point::$point);
    };
}

mod attach;
mod content;
mod extract;
mod finish;
mod ledger;
mod manifest;
mod metadata;
pub mod mount;
mod people;
mod remove;
mod report;
pub mod sandbox;
pub mod threads;
pub mod tool;
mod tree;
mod unpack;
mod user_namespace;
mod verify;
mod volume;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use airlock_policy::told::chain;
use airlock_policy::worker::{EXIT_BAD_ORDER, EXIT_SANDBOX, InvalidOrder, Job};

use tool::Tool;

/// Does what the arguments say.
pub fn run() -> ExitCode {
    crash_point!(WorkerBegun);
    // Started by a descriptor, the process would be listed under that descriptor's number.
    rustix::thread::set_name(c"airlock-worker").ok();
    let job = match order() {
        Ok(job) => job,
        Err(error) => return end(EXIT_BAD_ORDER, &error),
    };
    let ended = match job {
        Job::HoldNamespace => user_namespace::hold().map(|()| 0).map_err(Into::into),
        Job::Format => tool::become_tool(Tool::Format).map(|never| match never {}),
        Job::Check => tool::become_tool(Tool::Check).map(|never| match never {}),
        Job::Grow => tool::become_tool(Tool::Grow).map(|never| match never {}),
        Job::Mount { read_only } => attach::mount(read_only),
        Job::Unmount(name) => attach::unmount(&name),
        Job::Extract(order) => extract::run(&order).map(|()| 0).map_err(Into::into),
        Job::Verify(order) => verify::run(&order).map(|()| 0).map_err(Into::into),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => end(EXIT_SANDBOX, &*error),
    }
}

fn order() -> Result<Job, InvalidOrder> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Option<Vec<&str>> = arguments.iter().map(|a| a.to_str()).collect();
    Job::parse(&words.ok_or(InvalidOrder)?)
}

fn end(code: u8, error: &(dyn Error + 'static)) -> ExitCode {
    log(&format!("failed to {}", chain(error)));
    ExitCode::from(code)
}

/// Writes one line to stderr, which is the helper's log.
fn log(line: &str) {
    // Nobody is left to be told that the log is closed.
    drop(writeln!(std::io::stderr(), "airlock-dm-worker: {line}"));
}
