//! Attributes of a mount that is attached nowhere.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct mount_attr` (linux/mount.h), version 0: 32 bytes.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Maps the ids of a detached mount onto a user namespace (`mount_setattr(2)` with
/// `MOUNT_ATTR_IDMAP`):
/// what uid 0 of the namespace writes belongs to uid 0 on disk.
///
/// `EPERM` if the mount is already mapped or attached, or without CAP_SYS_ADMIN; `EINVAL` if its
/// filesystem cannot be mapped.
pub fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd())
        .map_err(|_negative| io::ErrorKind::InvalidInput)?;
    let attributes = MountAttr { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, userns_fd };
    // SAFETY: the path is an empty C string and the attributes are a live struct of the size that
    // is passed; the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    super::check_long(result).map(drop)
}
