//! `pool detach` and `pool destroy`: for root at the machine, with the services stopped.
//!
//! The lock says whether a helper runs. The broker's program, which alone knows ledger and device
//! mapper, takes the devices down; then the loop devices go, then, where that is asked for, the
//! files. A step that fails ends it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::Dir;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::errand::{node, pool};
use crate::log::log;
use crate::program::Program;
use crate::startup::{NotStarted, at, broker, config_file, privileges, state};

/// What is to be taken down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Teardown {
    /// Devices and loop devices; files stay.
    Detach,
    /// The files too, for good.
    Destroy,
    /// Nothing: what `Destroy` would do is said.
    DryRun,
}

/// Takes the pool down.
pub fn run(config_path: &Path, what: Teardown) -> Result<(), NotStarted> {
    let config_file = config_file::open(config_path).map_err(at("open the configuration"))?;
    let config = config_file.parse().map_err(at("read the configuration"))?;
    privileges::close_by_default();
    let (state, _lock) = state::open_and_lock(&config.state)?;
    let is_dry = what == Teardown::DryRun;
    take_devices_down(&state, is_dry).map_err(at("take the pool's devices down"))?;
    if !is_dry {
        node::unpublish_all().map_err(at("remove the links under /dev/airlock"))?;
    }
    if config.pool.data_device.is_none() {
        pool::detach_loops(state.as_fd(), is_dry).map_err(at("detach the loop devices"))?;
    }
    if what != Teardown::Detach {
        pool::remove_files(state.as_fd(), is_dry).map_err(at("remove the pool's files"))?;
    }
    if config.pool.data_device.is_some() {
        log("what is on the pool's block devices is left: wipe them before they are used anew");
    }
    let left = left(&state).map_err(at("look at what is left"))?;
    log(&format!("left in {}: {left}", config.state.display()));
    Ok(())
}

fn take_devices_down(state: &OwnedFd, is_dry: bool) -> Result<(), Box<dyn std::error::Error>> {
    let program = Program::open(&Program::own_directory()?, broker::BROKER)?;
    let mode = if is_dry { "dry-run" } else { "now" };
    let arguments = [broker::BROKER.to_owned(), "--take-down".to_owned(), mode.to_owned()];
    let stderr = std::io::stderr();
    let started = program.start(&arguments, (stderr.as_fd(), &[state.as_fd()]), Signal::KILL)?;
    let ended = waitid(WaitId::PidFd(started.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    if ended.and_then(|status| status.exit_status()) == Some(0) {
        Ok(())
    } else {
        Err("a device is in use, or not ours: see the line above".into())
    }
}

fn left(state: &OwnedFd) -> Result<String, rustix::io::Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(state)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.join(", "))
}
