//! Descriptors that the process was started with, known by their numbers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers that were taken, a bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes the inherited descriptor of this number, 3 to 63, and marks it close-on-exec.
///
/// Each number is given out once; then, and for a number that is not open, `EBADF`. To be called
/// at the start of a process, before it opens anything that could have got the number.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let closed = || io::Error::from_raw_os_error(libc::EBADF);
    let bit = match u32::try_from(number) {
        Ok(shift @ 3..=63) => 1_u64 << shift,
        Ok(_) | Err(_) => return Err(closed()),
    };
    // SAFETY: F_SETFD takes an integer and touches no memory; a closed number gives EBADF.
    super::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(closed());
    }
    // SAFETY: the descriptor is open, as fcntl just said, and nobody else owns it: nobody in this
    // process opened it, and the bit keeps it from being given out twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_number_is_given_out_once_and_only_if_it_is_open() {
        for number in [-1, 0, 2, 62, 64] {
            assert_eq!(take(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
        let number = io::pipe().unwrap().0.into_raw_fd();
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert_eq!(take(number).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
