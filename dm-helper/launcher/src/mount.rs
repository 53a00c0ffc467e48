//! A volume's filesystem as a mount that is attached nowhere: no path leads to it (HOST-3).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airlock_policy::errand::{Failure, Stage};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::file::path_of;
use crate::log::{failed, log};

/// What a mount is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Nothing of it changes, on the device neither.
    ReadOnly,
    /// A worker writes into it.
    ReadWrite,
}

/// Mounts the ext4 on a device, with its ids mapped onto a user namespace. It is unmounted when
/// the last descriptor of it is closed.
pub fn detached(
    device: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    access: Access,
) -> Result<OwnedFd, Failure> {
    let mount = mount(device, access).map_err(failed(Stage::Mount))?;
    airlock_sys::mount::map_ids(mount.as_fd(), user_namespace).map_err(|error| Failure {
        stage: Stage::IdMap,
        errno: error.raw_os_error().unwrap_or_default(),
    })?;
    Ok(mount)
}

fn mount(device: BorrowedFd<'_>, access: Access) -> Result<OwnedFd, Errno> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // By the descriptor that was checked, so that no name can be changed meanwhile.
    fsconfig_set_string(context.as_fd(), "source", path_of(device))?;
    if access == Access::ReadOnly {
        fsconfig_set_flag(context.as_fd(), "ro")?;
    }
    if let Err(errno) = fsconfig_create(context.as_fd()) {
        log_reasons(&context);
        return Err(errno);
    }
    // Nothing in it is run, is a device or gives rights, whatever the image says; and reading
    // changes nothing.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
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
