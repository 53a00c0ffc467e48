//! Files that only root may have written.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// What is wrong with who may change a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untrusted {
    /// Its owner is somebody else.
    #[error("it must belong to root, and belongs to uid {0}")]
    Owner(u32),
    /// Others may write it, or, where that is asked for, open it.
    #[error("its mode {0:04o} lets others in")]
    Mode(u32),
    /// It is something else than it should be.
    #[error("it is not a {0}")]
    Kind(&'static str),
}

/// Bits that others than root must not have: write.
pub(crate) const WRITE: u32 = 0o022;
/// Bits that others than root must not have: any.
pub(crate) const ANY: u32 = 0o077;

/// A file is root's, of this kind, and has none of the `forbidden` mode bits.
pub(crate) fn check(stat: &Stat, kind: FileType, forbidden: u32) -> Result<(), Untrusted> {
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err(Untrusted::Kind(match kind {
            FileType::Directory => "directory",
            FileType::RegularFile => "regular file",
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => "file of the right kind",
        }));
    }
    if stat.st_uid != 0 {
        return Err(Untrusted::Owner(stat.st_uid));
    }
    if stat.st_mode & forbidden != 0 { Err(Untrusted::Mode(stat.st_mode & 0o7777)) } else { Ok(()) }
}

/// Reads a small file whole, at most `most` bytes.
pub(crate) fn read(file: OwnedFd, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(file).take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Reads a short text that the kernel or the system keeps at a fixed path.
pub(crate) fn read_system(path: &str, most: u64) -> std::io::Result<Vec<u8>> {
    read(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, most)
}

/// The path by which the kernel finds an open file again, whatever happened to its name.
pub(crate) fn path_of(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// The same file as a descriptor that can do nothing but name it.
pub(crate) fn named(file: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path_of(file), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
