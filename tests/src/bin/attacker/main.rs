//! A worker, or a broker, that was taken over: stands where the real one stands, confines itself by
//! the real one's code, and then tries to get out.
//!
//! Installed as `airlock-dm-worker` or `airlock-dm-broker` beside a real launcher, which starts it.
//! Each attempt is made by a process of its own, since most end it. `attacker control FOLDER BLOB`
//! makes the same attempts unconfined: an attempt that fails there too proves nothing of the
//! confinement, so what may fail there is said beside it.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_sign_loss,
    clippy::arithmetic_side_effects,
    clippy::exit,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "an attacker does what the product must not, and ends where it cannot go on"
)]

mod broker;
mod errands;
mod files;
mod kernel;
mod processes;
mod scene;
mod umpire;
mod worker;

use std::process::ExitCode;

use airlock_policy::worker::WORKER;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [WORKER, "extract", ..] => worker::take_part(&words),
        // The launcher needs the namespace that extractions live in.
        [WORKER, ..] => airlock_dm_worker::run(),
        ["airlock-dm-broker", ..] => broker::take_part(),
        [_, "control", folder, blob, results] => worker::control(folder, blob, results),
        _ => ExitCode::FAILURE,
    }
}
