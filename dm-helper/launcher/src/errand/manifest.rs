//! Manifests of volumes: `trees/THIN` beneath the state directory, opened here and never read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airlock_policy::errand::{Failure, Stage, TREES};
use airlock_policy::name::ThinId;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::log::failed;

/// Makes the manifest of a volume, empty. Its name is on the disk when this returns.
pub(super) fn create(state: BorrowedFd<'_>, thin: ThinId) -> Result<OwnedFd, Failure> {
    let failed = failed(Stage::TreeFile);
    match rustix::fs::mkdirat(state, TREES, Mode::RWXU) {
        Ok(()) => rustix::fs::fsync(state).map_err(&failed)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let folder = folder(state).map_err(&failed)?;
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&folder, name(thin), flags, Mode::RUSR | Mode::WUSR).map_err(&failed)?;
    rustix::fs::fsync(folder).map_err(failed)?;
    crash_point!(ManifestMade);
    Ok(file)
}

/// Opens the manifest of a volume; `None` where it has none.
pub(super) fn open(state: BorrowedFd<'_>, thin: ThinId) -> Result<Option<OwnedFd>, Failure> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = folder(state)
        .and_then(|folder| rustix::fs::openat(folder, name(thin), flags, Mode::empty()));
    absent_or(opened)
}

/// Removes the manifest of a volume, if there is one.
pub(super) fn remove(state: BorrowedFd<'_>, thin: ThinId) -> Result<(), Failure> {
    let removed =
        folder(state).and_then(|folder| rustix::fs::unlinkat(folder, name(thin), AtFlags::empty()));
    crash_point!(ManifestRemoved);
    absent_or(removed).map(drop)
}

/// Removes all manifests, and their folder unless somebody else has put something there.
pub(super) fn remove_all(state: BorrowedFd<'_>) -> Result<(), Errno> {
    let folder = match folder(state) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().iter().all(u8::is_ascii_digit) {
            rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
        }
    }
    match rustix::fs::unlinkat(state, TREES, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Ok(()),
        other => other,
    }
}

fn absent_or<T>(result: Result<T, Errno>) -> Result<Option<T>, Failure> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).map_err(failed(Stage::TreeFile)),
    }
}

fn folder(state: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(state, TREES, flags, Mode::empty())
}

fn name(thin: ThinId) -> String {
    u32::from(thin).to_string()
}
