//! The user namespace that extractions live in: made once, held by a descriptor.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};

use airlock_policy::worker::Job;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::program::Program;

/// Image ids 0 to 2147483646 as the upper half of the host's ids, where nobody is: an image's
/// root is nobody (see [`airlock_policy::limit::MAX_OWNER`]).
const ID_MAP: &[u8] = b"0 2147483648 2147483647";

/// How long a worker that does nothing else may take to be there.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Makes the namespace. It needs `CAP_SETUID` and `CAP_SETGID`, to write maps of ids that are not
/// one's own, at this moment only.
pub fn make(worker: &Program) -> std::io::Result<OwnedFd> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (arguments, log) = (Job::HoldNamespace.arguments(), std::io::stderr());
    // It reads nothing that a stranger wrote, so it may write to our own log.
    let holder = worker.start(&arguments, (log.as_fd(), &[theirs.as_fd()]), Signal::KILL)?;
    drop(theirs);
    let namespace = open(&ours, holder.pid.as_raw_nonzero().get());
    // It has nothing more to do, whatever came of it. It cannot have ended unnoticed: its number
    // is taken until it is waited for.
    pidfd_send_signal(&holder.pidfd, Signal::KILL)?;
    waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    namespace
}

fn open(holder: &OwnedFd, pid: i32) -> std::io::Result<OwnedFd> {
    poll(&mut [PollFd::new(holder, PollFlags::IN)], Some(&PATIENCE))?;
    let mut byte = [0];
    if rustix::net::recv(holder, &mut byte[..], rustix::net::RecvFlags::DONTWAIT)?.0 != 1 {
        return Err(Error::new(ErrorKind::BrokenPipe, "the worker could not make it"));
    }
    for map in ["uid_map", "gid_map"] {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let map = rustix::fs::open(format!("/proc/{pid}/{map}"), flags, Mode::empty())?;
        rustix::io::write(map, ID_MAP)?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty())?)
}
