//! The real worker on a scratch filesystem of this machine: no devicemapper is needed for that.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airlock_dm_launcher::errand::{Desk, extract};
use airlock_dm_launcher::program::Program;
use airlock_dm_launcher::startup::user_namespace;
use airlock_dm_launcher::worker::Worker;
use airlock_policy::errand::{Answer, Envelope, Stage};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::name::RequestId;
use airlock_policy::worker::{Job, WORKER};

use crate::loopback::Loop;

/// The folder that this run's programs were built into.
///
/// # Panics
///
/// When the worker was not built: tests of the whole product need its binaries.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().find(|folder| folder.join(WORKER).exists());
    folder
        .unwrap_or_else(|| panic!("{WORKER} is not built: cargo build --workspace --bins"))
        .to_owned()
}

/// The launcher's desk, as its start-up would lay it out.
///
/// # Panics
///
/// Without root.
pub fn desk(config: HelperConfig) -> Desk {
    assert!(rustix::process::geteuid().is_root(), "namespaces of other users' ids need root");
    let worker = Program::open(&programs(), WORKER).unwrap();
    let namespace = user_namespace::make(&worker).unwrap();
    let state = File::open(std::env::temp_dir()).unwrap().into();
    Desk::new(config, state, worker, (namespace, 0))
}

/// What the errands of these tests run under.
pub fn envelope() -> Envelope {
    Envelope { number: 1, request: RequestId::try_from("test".to_owned()).unwrap() }
}

/// Formats a device as airlock's base volume is formatted, by the real worker.
pub fn format(desk: &Desk, device: &Loop) -> Answer {
    let how = (envelope(), Stage::Format, Duration::from_mins(1));
    Worker::start_tool(&desk.worker, &Job::Format, device.as_fd(), how).unwrap().conclude()
}

/// A new filesystem as airlock makes it.
///
/// # Panics
///
/// When it cannot be made.
pub fn base_volume(desk: &Desk, bytes: u64) -> Loop {
    let device = Loop::new(bytes);
    assert_eq!(format(desk, &device), Answer::Done);
    device
}

/// Extracts a blob into the filesystem on a device, by the real worker, and returns its last
/// answer.
///
/// # Panics
///
/// When the worker cannot be started.
pub fn extracted(desk: &Desk, device: &Loop, blob: &Path) -> Answer {
    let blob = File::open(blob).unwrap();
    let mut worker = extract::start(desk, device.as_fd(), blob.as_fd(), &envelope()).unwrap();
    while worker.reports().is_some() {
        worker.read_report();
    }
    worker.conclude()
}

/// One field of a process's status.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
