//! Every system call of the privileged side that needs `unsafe`. Nothing here decides anything.
//!
//! One system call a function (and, in [`spawn`], the few that must happen between `fork` and
//! `exec`), typed arguments, the kernel's errno as the error. What `rustix` offers safely is not
//! repeated here.
//!
//! | module | calls |
//! | --- | --- |
//! | [`spawn`] | fork, execveat |
//! | [`mount`] | `mount_setattr` |
//! | [`loop_device`] | the ioctls of `/dev/loop-control` and `/dev/loopN` |
//! | [`inherited`] | descriptors that the process was started with |
//! | [`namespace`] | unshare |
//! | [`signal`] | sigprocmask, signalfd |
//! | [`system_calls`] | seccomp, by the crate `seccompiler` |
#![expect(unsafe_code, reason = "this crate is where the privileged side's unsafe code lives")]

pub mod inherited;
pub mod loop_device;
pub mod mount;
pub mod namespace;
pub mod signal;
pub mod spawn;
pub mod system_calls;

use std::io;

/// The result of a system call: -1 stands for the errno it left.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for those that return a `long`.
fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
