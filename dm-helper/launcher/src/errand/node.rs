//! Gives a snapshot's node to those who may use it, and a name to find it by.

use std::os::fd::OwnedFd;

use airlock_policy::errand::{Failure, Stage};
use airlock_policy::name::SnapshotName;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::file;
use crate::log::failed;

/// Where the links are.
const LINKS: &str = "/dev/airlock";

/// Sets a node's group and mode, and makes its link.
pub(super) fn publish(
    node: &OwnedFd,
    (group, mode): (u32, u32),
    minor: u32,
    name: &SnapshotName,
) -> Result<(), Failure> {
    let owner = failed(Stage::NodeOwner);
    let (uid, gid) = (Some(Uid::ROOT), Some(Gid::from_raw(group)));
    rustix::fs::chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(&owner)?;
    // A descriptor that only names a file takes no fchmod; this path leads to that file alone.
    rustix::fs::chmod(file::path_of(node), Mode::from_raw_mode(mode)).map_err(owner)?;
    crash_point!(NodeGiven);
    link(minor, name).map_err(failed(Stage::NodeLink))
}

/// Takes a link away. That there is none is as well.
pub(super) fn unpublish(name: &SnapshotName) -> Result<(), Failure> {
    let unlink = || {
        let links = open_links()?;
        if is_link(&links, name.as_str())? {
            rustix::fs::unlinkat(&links, name.as_str(), AtFlags::empty())?;
            crash_point!(Unlinked);
        }
        Ok(())
    };
    match unlink() {
        Err(Errno::NOENT) => Ok(()),
        other => other.map_err(failed(Stage::NodeLink)),
    }
}

/// Takes every link away: no device is left that one could lead to.
pub(crate) fn unpublish_all() -> Result<(), Errno> {
    let links = match open_links() {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in Dir::read_from(&links)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && is_link(&links, &name)? {
            rustix::fs::unlinkat(&links, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn link(minor: u32, name: &SnapshotName) -> Result<(), Errno> {
    match rustix::fs::mkdir(LINKS, Mode::from_raw_mode(0o755)) {
        // The umask, which keeps all else closed, took bits from it.
        Ok(()) => rustix::fs::chmod(LINKS, Mode::from_raw_mode(0o755))?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let links = open_links()?;
    is_link(&links, name.as_str())?;
    // No snapshot's name begins with a dot. Under its own name the link appears whole.
    let unfinished = format!(".{minor}");
    match rustix::fs::unlinkat(&links, &unfinished, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::symlinkat(format!("../dm-{minor}"), &links, &unfinished)?;
    crash_point!(LinkMade);
    rustix::fs::renameat(&links, &unfinished, &links, name.as_str())?;
    crash_point!(Linked);
    Ok(())
}

fn open_links() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let links = rustix::fs::open(LINKS, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&links)?;
    file::check(&stat, FileType::Directory, file::WRITE).map_err(|_untrusted| Errno::PERM)?;
    Ok(links)
}

/// Whether there is a link of this name. `EEXIST` if it is anything else: it is not ours.
fn is_link(links: &OwnedFd, name: &str) -> Result<bool, Errno> {
    match rustix::fs::statat(links, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Ok(true),
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
