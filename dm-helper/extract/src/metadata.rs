//! Owner, mode, attributes and times of what was made, all by descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use airlock_archive::Stop;
use airlock_policy::entry::{Entry, Time};
use airlock_policy::rule::Rule;
use rustix::fs::{Gid, Mode, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::people::People;
use crate::volume::{Directory, Step, WriteFault, at, stop, timespec};

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// What a thing has before its own attributes are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Before {
    /// Nothing but the mode of its entry: it was just made with it, and is root's.
    Mode,
    /// Nothing: it was just made.
    Nothing,
    /// What its directory handed down to it.
    HandedDown,
    /// Anything: it was there.
    Anything,
}

/// Gives a file, a directory or a pipe what its entry says, all but the time.
///
/// The order matters: a change of owner clears the setuid bits and the file capabilities, and a
/// list sets the mode's group bits.
pub(crate) fn apply(
    fd: BorrowedFd<'_>,
    entry: &Entry,
    before: Before,
    people: People<'_>,
) -> Step<()> {
    match before {
        Before::Mode | Before::Nothing => {}
        Before::HandedDown => clear_lists(fd).map_err(Stop::Failed)?,
        Before::Anything => clear_attributes(fd).map_err(Stop::Failed)?,
    }
    // Most files are root's, and plain: two calls less for each.
    if before != Before::Mode || (entry.uid, entry.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(stop("set the owner"))?;
    }
    if before != Before::Mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(stop("set the mode"))?;
    }
    for xattr in &entry.xattrs {
        set(fd, &xattr.name, &xattr.value)?;
    }
    for acl in &entry.acls {
        let value = acl.xattr_value(|person| people.id_of(person)).map_err(Stop::Refuse)?;
        set(fd, acl.xattr_name().as_bytes(), &value)?;
    }
    Ok(())
}

/// Sets the time of the last change, and of the last access to the same: what is extracted does
/// not depend on when.
pub(crate) fn set_time(fd: BorrowedFd<'_>, time: Time) -> Step<()> {
    rustix::fs::futimens(fd, &times(time)).map_err(stop("set the time"))
}

/// Both times of a thing.
pub(crate) fn times(time: Time) -> Timestamps {
    Timestamps { last_access: timespec(time), last_modification: timespec(time) }
}

/// Undoes what a directory that was just made in `above` took over from it: its group, its setgid
/// bit, its access control list.
pub(crate) fn as_if_alone(fd: impl AsFd, above: &Directory) -> Result<(), WriteFault> {
    let fd = fd.as_fd();
    if above.hands_down {
        clear_lists(fd)?;
    }
    rustix::fs::fchown(fd, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(at("set the owner"))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(0o755)).map_err(at("set the mode"))
}

/// Whether a directory hands an access control list down.
pub(crate) fn hands_down(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match rustix::fs::fgetxattr_query(fd, DEFAULT_LIST) {
        Ok(_size) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Step<()> {
    match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        // The filesystem has no place for it: faithful or refused.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
            Err(Stop::Refuse(Rule::XattrNamespace))
        }
        Err(Errno::RANGE | Errno::TOOBIG) => Err(Stop::Refuse(Rule::XattrSize)),
        other => other.map_err(stop("set an extended attribute")),
    }
}

fn clear_lists(fd: BorrowedFd<'_>) -> Result<(), WriteFault> {
    clear(fd, ACCESS_LIST)?;
    clear(fd, DEFAULT_LIST)
}

fn clear_attributes(fd: BorrowedFd<'_>) -> Result<(), WriteFault> {
    let what = "list extended attributes";
    let size = rustix::fs::flistxattr_query(fd).map_err(at(what))?;
    if size == 0 {
        return Ok(());
    }
    let mut names = vec![0_u8; size];
    let filled = rustix::fs::flistxattr(fd, &mut names[..]).map_err(at(what))?;
    names.truncate(filled);
    names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).try_for_each(|n| clear(fd, n))
}

fn clear(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), WriteFault> {
    match rustix::fs::fremovexattr(fd, name) {
        // A file has no default list.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => Ok(()),
        other => other.map_err(at("remove an extended attribute")),
    }
}
