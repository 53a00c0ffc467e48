//! One line on stderr, which systemd hands to the journal.

use std::io::Write as _;

use airlock_policy::errand::{Envelope, Failure, Stage};
use rustix::io::Errno;

/// Writes a line to the log.
pub fn log(line: &str) {
    // Nobody is left to be told that the log is closed.
    drop(writeln!(std::io::stderr(), "airlock-dm-helper: {line}"));
}

/// Writes a line about an errand to the log.
pub fn log_errand(envelope: &Envelope, line: &str) {
    let Envelope { number, request } = envelope;
    log(&format!("request={request} errand={number} {line}"));
}

/// The failure of a stage, by what the kernel said.
pub(crate) fn failed(stage: Stage) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { stage, errno: errno.raw_os_error() }
}

/// A failure as people read it.
pub(crate) fn told(failure: Failure) -> String {
    let Failure { stage, errno } = failure;
    if errno == 0 {
        format!("failed to {}", stage.text())
    } else {
        format!("failed to {}: {}", stage.text(), std::io::Error::from_raw_os_error(errno))
    }
}
