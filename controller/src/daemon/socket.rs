//! The control socket: systemd's, or one of our own.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;

use airlock_protocol::control::{ErrorClass, Fault};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use tokio::net::UnixListener;

use crate::fault::{Explain as _, fault};

/// Who may connect may command: the file's mode and group say who that is.
const MODE: u32 = 0o660;

/// Takes the socket that systemd passed, or listens at `path`.
pub(super) fn listen(path: &Path) -> Result<UnixListener, Fault> {
    let listener = match inherited() {
        Ok(Some(listener)) => Ok(listener),
        Ok(None) => bind(path),
        Err(error) => Err(error),
    };
    let listener = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    listener.map_err(|error| {
        let what = format!("failed to listen at {}", path.display());
        fault(ErrorClass::Unavailable, "daemon.socket", what).because(&error)
    })
}

/// The first socket that systemd passed to this process.
fn inherited() -> io::Result<Option<StdListener>> {
    let Some(number) = sd_notify::listen_fds()?.next() else { return Ok(None) };
    // A number becomes a descriptor by asking the kernel for a copy of it: the one way to do so
    // without trusting the number.
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    let socket: OwnedFd = rustix::process::pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?;
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("what systemd passed does not listen"));
    }
    Ok(Some(socket.into()))
}

fn bind(path: &Path) -> io::Result<StdListener> {
    match std::fs::remove_file(path) {
        // The lock on the state directory is ours: a file that is there is a dead daemon's.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = StdListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}
