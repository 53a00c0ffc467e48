//! Removes things from the volume, with all that is in them, by descriptor and without following.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use airlock_archive::Stop;
use airlock_policy::rule::Rule;
use rustix::fs::{AtFlags, Dir, Mode};
use rustix::io::Errno;

use crate::ledger::Ledger;
use crate::volume::{DIRECTORY, Directory, Step, stop};

/// Whose things are removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// Everything goes: something else takes its place.
    Anybodys,
    /// What this layer wrote stays, and so do the directories around it: a whiteout hides only
    /// lower layers (OCI image spec, layer.md, "Whiteouts").
    LowerLayers,
}

/// Removes `name` from a directory, if it is there.
pub(crate) fn remove(
    directory: &Directory,
    name: &[u8],
    whose: Whose,
    ledger: &mut Ledger,
) -> Step<()> {
    let stays = whose == Whose::LowerLayers && ledger.wrote(directory.inode, name);
    if !stays {
        match rustix::fs::unlinkat(&directory.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(stop("remove what was there")(errno)),
        }
    }
    let fd = match rustix::fs::openat(&directory.fd, name, DIRECTORY, Mode::empty()) {
        // Written by this layer, and nothing that could hold what it did not write.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) if stays => return Ok(()),
        // Each level holds a descriptor open: no honest image is that deep.
        Err(Errno::MFILE) => return Err(Stop::Refuse(Rule::NameDepth)),
        other => other.map_err(stop("open a directory"))?,
    };
    let below = Directory::new(fd, ledger).map_err(stop("open a directory"))?;
    empty(&below, whose, ledger)?;
    if stays {
        return Ok(());
    }
    match rustix::fs::unlinkat(&directory.fd, name, AtFlags::REMOVEDIR) {
        // Something of this layer stays in it.
        Err(Errno::NOTEMPTY) if whose == Whose::LowerLayers => Ok(()),
        other => other.map_err(stop("remove a directory")),
    }
}

/// Empties a directory as far as `whose` says.
pub(crate) fn empty(directory: &Directory, whose: Whose, ledger: &mut Ledger) -> Step<()> {
    for name in names(directory.fd.as_fd()).map_err(stop("list a directory"))? {
        remove(directory, name.as_bytes(), whose, ledger)?;
    }
    Ok(())
}

/// The names in a directory, `.` and `..` aside. All at once: it will be changed meanwhile.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Looks whether anything lies in a volume. The `lost+found` that mkfs makes is no part of any
/// image: where it is all there is, it is removed.
pub(crate) fn has_something(root: impl AsFd) -> Result<bool, Errno> {
    /// The first inode that mkfs.ext4 gives out (ext4.h, `EXT4_GOOD_OLD_FIRST_INO`).
    const FIRST_INODE: u64 = 11;
    const NAME: &std::ffi::CStr = c"lost+found";
    let names = names(root.as_fd())?;
    let [only] = names.as_slice() else { return Ok(!names.is_empty()) };
    if only.as_c_str() != NAME {
        return Ok(true);
    }
    let stat = rustix::fs::statat(root.as_fd(), NAME, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_ino != FIRST_INODE {
        return Ok(true);
    }
    match rustix::fs::unlinkat(root.as_fd(), NAME, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(false),
        // Not empty, or not a directory: an image's own.
        Err(Errno::NOTEMPTY | Errno::NOTDIR) => Ok(true),
        Err(errno) => Err(errno),
    }
}
