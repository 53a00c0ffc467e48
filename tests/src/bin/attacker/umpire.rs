//! Has each attempt made by a process of its own, and writes down what became of it.

use std::fs;
use std::io;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::scene::{Attempt, Control, Scene};

/// The process could not be confined: nothing was tried.
const UNCONFINED: i32 = 200;
/// It failed without a reason of the kernel's.
pub(crate) const NO_ERRNO: i32 = 199;

/// How an attempt ended.
enum Ended {
    Did,
    Failed(i32),
    Killed(i32),
    Unconfined,
}

/// Makes an attempt in a new process, after `first`.
fn made(attempt: &Attempt, scene: &Scene, first: &dyn Fn() -> bool) -> Ended {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = if first() {
            (attempt.act)(scene)
                .map_or_else(|error| error.raw_os_error().unwrap_or(NO_ERRNO), |()| 0)
        } else {
            UNCONFINED
        };
        // SAFETY: ends the process without running anything that was left by its parent.
        unsafe { libc::_exit(code) };
    }
    let child = WaitId::Pid(Pid::from_raw(child).unwrap());
    let status = waitid(child, WaitIdOptions::EXITED).unwrap().unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ended::Did,
        (Some(UNCONFINED), _) => Ended::Unconfined,
        (Some(errno), _) => Ended::Failed(errno),
        (None, signal) => Ended::Killed(signal.unwrap_or_default()),
    }
}

fn error(errno: i32) -> String {
    if errno == NO_ERRNO {
        return "refused".to_owned();
    }
    io::Error::from_raw_os_error(errno).to_string()
}

fn signal(number: i32) -> String {
    match number {
        libc::SIGSYS => "killed by its filter (SIGSYS)".to_owned(),
        libc::SIGXFSZ => "killed by its limit (SIGXFSZ)".to_owned(),
        other => format!("killed by signal {other}"),
    }
}

/// Makes the attempts from inside a confinement. Each must fail.
pub(crate) fn confined(
    attempts: &[&[Attempt]],
    scene: &Scene,
    confine: &dyn Fn() -> bool,
) -> Vec<Value> {
    let outcome = |attempt: &Attempt| {
        let (outcome, detail) = match made(attempt, scene, confine) {
            Ended::Did => ("breach", "it worked".to_owned()),
            Ended::Failed(errno) => ("refused", error(errno)),
            Ended::Killed(number @ (libc::SIGSYS | libc::SIGXFSZ)) => ("refused", signal(number)),
            // An attacker that crashed has shown nothing.
            Ended::Killed(number) => ("breach", signal(number)),
            Ended::Unconfined => ("breach", "the process was not confined".to_owned()),
        };
        json!({"case": attempt.name, "outcome": outcome, "detail": detail})
    };
    attempts.iter().copied().flatten().map(outcome).collect()
}

/// Makes the attempts with nothing in the way, and says of each whether its failure elsewhere
/// means something.
pub(crate) fn unconfined(
    attempts: &[&[Attempt]],
    scene: &Scene,
    apart: &dyn Fn() -> bool,
) -> Vec<Value> {
    let outcome = |attempt: &Attempt| {
        let (means, detail) = match attempt.control {
            Control::NotMade(why) => (true, format!("not made unconfined: {why}")),
            control @ (Control::Works | Control::Fails(..)) => {
                match (made(attempt, scene, apart), control) {
                    (Ended::Did, _) => (true, "works unconfined".to_owned()),
                    (Ended::Failed(libc::ENOSYS), _) => {
                        (true, "this kernel does not have it".to_owned())
                    }
                    (Ended::Failed(errno), Control::Fails(expected, why))
                        if expected.contains(&errno) =>
                    {
                        (true, format!("unconfined: {}, {why}", error(errno)))
                    }
                    (Ended::Failed(errno), _) => {
                        (false, format!("unconfined too: {}", error(errno)))
                    }
                    (Ended::Killed(number), _) => (false, signal(number)),
                    (Ended::Unconfined, _) => (false, "was not set apart".to_owned()),
                }
            }
        };
        json!({"case": attempt.name, "means_something": means, "detail": detail})
    };
    attempts.iter().copied().flatten().map(outcome).collect()
}

/// Writes the outcomes where they are looked for, whole.
pub(crate) fn write(results: &str, outcomes: &[Value]) {
    let unfinished = format!("{results}.new");
    fs::write(&unfinished, serde_json::to_vec(outcomes).unwrap()).unwrap();
    // Not rename(2), which the launcher's list does not have.
    let here = rustix::fs::CWD;
    rustix::fs::renameat(here, unfinished, here, results).unwrap();
}
