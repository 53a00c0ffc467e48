//! What was done with each thin device: a byte each, in a file of the launcher's that the broker never
//! has (LINK-3). Thin ids are never used twice, so a mark stands as long as the pool.
//!
//! Not flushed: that a broker was taken over and the machine lost its power is not provided for.

use std::os::fd::{BorrowedFd, OwnedFd};

use airlock_policy::errand::{Failure, PAST, Stage};
use airlock_policy::name::ThinId;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::log::failed;

/// A layer was extracted into it.
pub(super) const FILLED: u8 = 1;
/// It was handed out: strangers may have written to it.
pub(super) const HANDED_OUT: u8 = 2;

/// Whether any of these was done with it.
pub(super) fn has(state: BorrowedFd<'_>, thin: ThinId, marks: u8) -> Result<bool, Failure> {
    open(state)
        .and_then(|file| read(&file, thin))
        .map(|byte| byte & marks != 0)
        .map_err(failed(Stage::DeviceCheck))
}

/// Notes that it is done.
pub(super) fn mark(state: BorrowedFd<'_>, thin: ThinId, mark: u8) -> Result<(), Failure> {
    let write = || {
        let file = open(state)?;
        let byte = read(&file, thin)? | mark;
        rustix::io::pwrite(&file, &[byte], u32::from(thin).into()).map(drop)
    };
    write().map_err(failed(Stage::DeviceCheck))
}

/// Forgets it all, with a pool that is no more.
pub(super) fn forget(state: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::unlinkat(state, PAST, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn open(state: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(state, PAST, flags, Mode::RUSR | Mode::WUSR)
}

fn read(file: &OwnedFd, thin: ThinId) -> Result<u8, Errno> {
    let mut byte = [0];
    // Behind its end there is nothing, and nothing was done.
    rustix::io::pread(file, &mut byte, u32::from(thin).into())?;
    let [byte] = byte;
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_was_done_is_known_to_the_next_launcher_until_the_pool_is_gone() {
        let folder = std::env::temp_dir().join(format!("airlock-past-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let again =
            || rustix::fs::open(&folder, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let thin = |number: u32| ThinId::try_from(number).unwrap();
        assert!(!has(again().as_fd(), thin(7), FILLED | HANDED_OUT).unwrap());
        mark(again().as_fd(), thin(7), HANDED_OUT).unwrap();
        mark(again().as_fd(), thin(0xff_ffff), FILLED).unwrap();
        mark(again().as_fd(), thin(7), FILLED).unwrap();
        for (number, filled, handed_out) in
            [(6, false, false), (7, true, true), (8, false, false), (0xff_ffff, true, false)]
        {
            let marks = [FILLED, HANDED_OUT];
            let seen = marks.map(|marks| has(again().as_fd(), thin(number), marks).unwrap());
            assert_eq!(seen, [filled, handed_out], "{number}");
        }
        forget(again().as_fd()).unwrap();
        forget(again().as_fd()).unwrap();
        assert!(!has(again().as_fd(), thin(7), FILLED | HANDED_OUT).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
