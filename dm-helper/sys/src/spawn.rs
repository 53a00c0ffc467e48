//! Starts a program that has nothing but the descriptors it is given (PROC-5).

use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use rustix::process::{Pid, Signal};

/// The most descriptors that a program is given.
pub const MAX_DESCRIPTORS: usize = 9;
/// The most arguments of a program, its name among them.
pub const MAX_ARGUMENTS: usize = 32;
/// What the child exits with if the program could not be started.
pub const EXIT_NOT_STARTED: i32 = 127;

/// A program to start.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The program's file, `O_PATH` or open for reading.
    pub program: BorrowedFd<'a>,
    /// The arguments, the program's name first.
    pub arguments: &'a [&'a CStr],
    /// What the program gets as descriptors 0, 1, 2 and so on. It gets no other.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The signal it gets when the thread that started it ends.
    pub death_signal: Signal,
}

/// A started process, not yet waited for.
#[derive(Debug)]
pub struct Child {
    /// Its number, valid until it is waited for.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
}

/// What the child needs between fork and exec, laid out beforehand: there it may not allocate.
struct Prepared {
    program: RawFd,
    arguments: [*const c_char; MAX_ARGUMENTS + 1],
    descriptors: [RawFd; MAX_DESCRIPTORS],
    count: c_int,
    death_signal: c_int,
    parent: libc::pid_t,
}

/// Starts a program with an empty environment, no blocked signals and the default action for
/// SIGPIPE (clone(2), execveat(2)).
///
/// The child exits with [`EXIT_NOT_STARTED`] if anything fails after the fork. `E2BIG` for too
/// many arguments or descriptors.
pub fn spawn(start: &Start<'_>) -> io::Result<Child> {
    let prepared = prepare(start)?;
    match fork()? {
        None => exec(prepared),
        Some(child) => Ok(child),
    }
}

/// Goes on twice: `None` in the child. Its descriptor comes from the same call that makes it: so a
/// starter needs no right to ask for a descriptor of just any process.
fn fork() -> io::Result<Option<Child>> {
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    let (mut pidfd, none): (RawFd, usize) = (-1, 0);
    // SAFETY: without CLONE_VM and with no stack of its own, the child has a copy of all memory and
    // goes on where the parent does, as after fork(2). It calls nothing but async-signal-safe
    // system calls on memory laid out before, until it execs or exits; so it does not matter which
    // locks other threads held. The kernel writes one descriptor to `pidfd`, which outlives the call.
    let child = super::check_long(unsafe {
        libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none)
    })?;
    let child = i32::try_from(child).map_err(|_large| io::ErrorKind::InvalidData)?;
    let Some(pid) = Pid::from_raw(child) else { return Ok(None) };
    // SAFETY: in the parent the call has made this descriptor, and nobody else knows of it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid, pidfd }))
}

fn prepare(start: &Start<'_>) -> io::Result<Prepared> {
    let too_many = || io::Error::from_raw_os_error(libc::E2BIG);
    let mut arguments = [ptr::null(); MAX_ARGUMENTS + 1];
    // One place stays null: it ends the list.
    let places = arguments.get_mut(..start.arguments.len()).ok_or_else(too_many)?;
    if start.arguments.len() > MAX_ARGUMENTS {
        return Err(too_many());
    }
    for (place, argument) in places.iter_mut().zip(start.arguments) {
        *place = argument.as_ptr();
    }
    let mut descriptors = [-1; MAX_DESCRIPTORS];
    let places = descriptors.get_mut(..start.descriptors.len()).ok_or_else(too_many)?;
    for (place, descriptor) in places.iter_mut().zip(start.descriptors) {
        *place = descriptor.as_raw_fd();
    }
    Ok(Prepared {
        program: start.program.as_raw_fd(),
        arguments,
        descriptors,
        count: c_int::try_from(start.descriptors.len()).map_err(|_large| too_many())?,
        death_signal: start.death_signal.as_raw(),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
    })
}

/// The child's way to its program.
fn exec(prepared: Prepared) -> ! {
    match try_exec(prepared) {
        Ok(never) => match never {},
        // SAFETY: _exit ends the process without running anything of the parent's.
        Err(_told_by_the_exit_code) => unsafe { libc::_exit(EXIT_NOT_STARTED) },
    }
}

fn try_exec(mut prepared: Prepared) -> io::Result<Infallible> {
    clear_signals()?;
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    super::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, prepared.death_signal) })?;
    // SAFETY: getppid cannot fail and touches no memory.
    if unsafe { libc::getppid() } != prepared.parent {
        // The parent ended before the line above: no signal will come.
        return Err(io::ErrorKind::NotFound.into());
    }
    // First out of the way of the numbers that will be given out, then to their places.
    let program = duplicate(prepared.program, prepared.count)?;
    let count = prepared.count;
    for descriptor in prepared.descriptors.iter_mut().filter(|fd| **fd != -1) {
        *descriptor = duplicate(*descriptor, count)?;
    }
    for (number, descriptor) in (0..count).zip(prepared.descriptors) {
        // SAFETY: dup2 touches no memory, and nothing of this process runs on after the exec.
        super::check(unsafe { libc::dup2(descriptor, number) })?;
    }
    let first = libc::c_uint::try_from(count).map_err(|_negative| io::ErrorKind::InvalidInput)?;
    // SAFETY: this marks descriptors close-on-exec and touches no memory.
    super::check_long(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })?;
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: the path is an empty C string; both lists end with a null and hold C strings that
    // live in memory which this child has a copy of.
    super::check_long(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            prepared.arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })?;
    Err(io::ErrorKind::Other.into())
}

/// A copy of a descriptor with a number of at least `lowest`, closed by exec.
fn duplicate(descriptor: RawFd, lowest: c_int) -> io::Result<RawFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory.
    super::check(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, lowest) })
}

/// Unblocks every signal, and undoes that Rust's runtime ignores SIGPIPE: both would be inherited.
fn clear_signals() -> io::Result<()> {
    let none = super::signal::SignalSet::of(&[])?;
    none.replace_mask()?;
    // SAFETY: SIG_DFL installs no code of ours.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn open(path: &str) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn run(arguments: &[&CStr]) -> (String, i32) {
        let (null, shell) = (open("/dev/null"), open("/bin/sh"));
        let (mut read, write) = io::pipe().unwrap();
        let child = spawn(&Start {
            program: shell.as_fd(),
            arguments,
            descriptors: &[null.as_fd(), write.as_fd(), write.as_fd(), null.as_fd()],
            death_signal: Signal::KILL,
        })
        .unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        (text, status.unwrap().exit_status().unwrap_or(-1))
    }

    #[test]
    fn a_program_has_exactly_the_descriptors_it_was_given_and_no_environment() {
        let script = c"echo /proc/self/fd/*; exec /usr/bin/env";
        let (text, status) = run(&[c"sh", c"-c", script]);
        let mut lines = text.lines();
        let descriptors = lines.next().unwrap().split(' ').count();
        // The shell itself opens one more, to read the directory.
        assert_eq!((descriptors, status), (5, 0), "{text}");
        // The shell's own.
        let own = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
        let left: Vec<_> = lines.filter(|l| !own.iter().any(|o| l.starts_with(o))).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_program_that_cannot_be_started_is_told_by_the_exit_code() {
        let null = open("/dev/null");
        let start = Start {
            program: null.as_fd(),
            arguments: &[c"null"],
            descriptors: &[null.as_fd()],
            death_signal: Signal::KILL,
        };
        let child = spawn(&start).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.unwrap().exit_status(), Some(EXIT_NOT_STARTED));
        let many = [null.as_fd(); MAX_DESCRIPTORS + 1];
        let error = spawn(&Start { descriptors: &many, ..start }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    }
}
