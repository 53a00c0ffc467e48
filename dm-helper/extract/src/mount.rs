//! Mounts the ext4 on the device that the launcher gave: by a worker, so that a device that hangs
//! keeps nobody else waiting.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use airlock_policy::errand::{Failure, Stage};
use airlock_policy::worker::DEVICE;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::log;

/// What a mount is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Nothing of it changes, on the device neither.
    ReadOnly,
    /// It is written to.
    ReadWrite,
}

/// A mount in no mount namespace, to which no path leads, with its ids mapped onto a user namespace.
/// It is unmounted when the last descriptor of it is closed.
pub fn detached(user_namespace: BorrowedFd<'_>, access: Access) -> Result<OwnedFd, Failure> {
    // HOST-3: nothing in it is run, is a device or gives rights, whatever the image says; and reading
    // changes nothing.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let mount = ext4(access, attributes)
        .map_err(|errno| Failure { stage: Stage::Mount, errno: errno.raw_os_error() })?;
    airlock_sys::mount::map_ids(mount.as_fd(), user_namespace).map_err(|error| Failure {
        stage: Stage::IdMap,
        errno: error.raw_os_error().unwrap_or_default(),
    })?;
    crash_point!(VolumeMounted);
    Ok(mount)
}

/// A mount that is attached nowhere yet.
pub(crate) fn ext4(access: Access, mut attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // By the descriptor that the launcher checked: no name can be changed meanwhile.
    fsconfig_set_string(context.as_fd(), "source", format!("/proc/self/fd/{DEVICE}"))?;
    if access == Access::ReadOnly {
        fsconfig_set_flag(context.as_fd(), "ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if let Err(errno) = fsconfig_create(context.as_fd()) {
        log_reasons(&context);
        return Err(errno);
    }
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Logs what the kernel has to say of a mount that failed: read from the context, a line each.
fn log_reasons(context: &OwnedFd) {
    let mut line = [0_u8; 256];
    while let Ok(count @ 1..) = rustix::io::read(context, &mut line[..]) {
        let text = line.get(..count).unwrap_or_default();
        log(&format!("mount: {}", text.escape_ascii()));
    }
}
