//! Mounts one device on one directory, or unmounts one directory: in the host's mount namespace, by
//! a process that can do nothing else (HOST-4).

use std::error::Error;
use std::os::fd::OwnedFd;

use airlock_policy::name::SnapshotName;
use airlock_policy::worker::{DEVICE, MOUNT_POINT, MOUNTS};
use airlock_sys::inherited;
use airlock_sys::system_calls::{Listed, When};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount};

use When::Always;

use crate::mount::{self, Access};
use crate::{log, sandbox};

/// What a mount is made of.
const MOUNT_CALLS: &[Listed] = &[
    (libc::SYS_fsopen, Always),
    (libc::SYS_fsconfig, Always),
    (libc::SYS_fsmount, Always),
    (libc::SYS_move_mount, Always),
    // The kernel's reasons where it does not mount.
    (libc::SYS_read, Always),
];

/// What ends it.
const UNMOUNT_CALLS: &[Listed] = &[
    // Neither lazily nor by force.
    (libc::SYS_umount2, When::is(1, libc::UMOUNT_NOFOLLOW as u64)),
    (libc::SYS_unlinkat, Always),
];

/// Descriptors are closed, a failure is logged, and the runtime ends.
const ENDING: &[Listed] = &[
    (libc::SYS_close, Always),
    (libc::SYS_write, Always),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFD as u64)),
    (libc::SYS_brk, Always),
    (libc::SYS_mmap, When::without(2, libc::PROT_EXEC as u64)),
    (libc::SYS_munmap, Always),
    (libc::SYS_futex, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_exit_group, Always),
];

/// Mounts the ext4 on the device. What comes back is the exit code, an errno.
pub(crate) fn mount(read_only: bool) -> Result<u8, Box<dyn Error>> {
    let _device = inherited::take(DEVICE)?;
    let point = inherited::take(MOUNT_POINT)?;
    sandbox::confine_attachment(&[MOUNT_CALLS, ENDING].concat())?;
    let mounted = attach(&point, if read_only { Access::ReadOnly } else { Access::ReadWrite });
    crash_point!(SnapshotMounted);
    Ok(code("mount", mounted))
}

/// Unmounts the directory of this name, and removes it.
pub(crate) fn unmount(name: &SnapshotName) -> Result<u8, Box<dyn Error>> {
    let folder = inherited::take(MOUNTS)?;
    rustix::process::fchdir(&folder)?;
    sandbox::confine_attachment(&[UNMOUNT_CALLS, ENDING].concat())?;
    let unmounted = rustix::mount::unmount(name.as_str(), UnmountFlags::NOFOLLOW);
    crash_point!(SnapshotUnmounted);
    if unmounted.is_ok()
        && let Err(errno) = rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::REMOVEDIR)
    {
        // An empty directory is in nobody's way.
        log(&format!("failed to remove the directory {name}: {errno}"));
    }
    Ok(code("unmount", unmounted))
}

fn attach(point: &OwnedFd, access: Access) -> Result<(), Errno> {
    // Nothing in it is a device or gives rights on the host, whatever the image says.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = mount::ext4(access, attributes)?;
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", point, "", by_descriptors)
}

fn code(what: &str, done: Result<(), Errno>) -> u8 {
    let Err(errno) = done else { return 0 };
    log(&format!("failed to {what} the snapshot: {errno}"));
    u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        for calls in [MOUNT_CALLS, UNMOUNT_CALLS] {
            assert!(airlock_sys::system_calls::is_consistent(&[calls, ENDING].concat()));
        }
    }
}
