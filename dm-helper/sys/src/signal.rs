//! Signals as something to read, not as something that interrupts.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalSet").finish_non_exhaustive()
    }
}

impl SignalSet {
    /// The set of these signals, by number. `EINVAL` for a number that is no signal.
    pub fn of(signals: &[i32]) -> io::Result<Self> {
        let mut set = Self::empty()?;
        for signal in signals {
            // SAFETY: the set is a live, initialised sigset_t.
            super::check(unsafe { libc::sigaddset(&raw mut set.0, *signal) })?;
        }
        Ok(set)
    }

    /// Makes this set the calling thread's mask, whatever it was.
    pub(crate) fn replace_mask(&self) -> io::Result<()> {
        // SAFETY: the set is a live, initialised sigset_t, and no old mask is asked for.
        let error = unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    fn empty() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset writes the whole set that the pointer leads to.
        super::check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        // SAFETY: sigemptyset succeeded, so the set is initialised.
        Ok(Self(unsafe { set.assume_init() }))
    }
}

/// Blocks the signals in the calling thread (`pthread_sigmask(3)`).
pub fn block(set: &SignalSet) -> io::Result<()> {
    // SAFETY: the set is a live, initialised sigset_t, and no old mask is asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set.0, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// A descriptor that can be read while one of the signals, which must be blocked, is pending
/// (`signalfd(2)`). Non-blocking.
pub fn descriptor(set: &SignalSet) -> io::Result<OwnedFd> {
    // SAFETY: -1 asks for a new descriptor, and the set is a live, initialised sigset_t.
    let fd =
        unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    let fd = super::check(fd)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
