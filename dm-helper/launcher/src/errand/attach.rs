//! Where snapshots are mounted: a directory each, beneath one folder (HOST-4).
//!
//! What is mounted is asked of the kernel each time, and not remembered: a reboot, or root's own
//! hand, ends a mount without telling.

use std::os::fd::OwnedFd;

use airlock_policy::errand::{Failure, Stage};
use airlock_policy::name::{MOUNTS, SnapshotName};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::file;
use crate::log::failed;

/// The longest list of mounts that is read.
const MOST: u64 = 16 << 20;

/// The directory to mount a device on, made if need be; `None` if the device is mounted there.
/// One that is mounted elsewhere is busy.
pub(super) fn point(
    node: &OwnedFd,
    name: &SnapshotName,
    group: u32,
) -> Result<Option<OwnedFd>, Failure> {
    let failed = failed(Stage::MountPoint);
    let points = points(node).map_err(&failed)?;
    if points.contains(&path(name)) {
        return Ok(None);
    }
    if !points.is_empty() {
        return Err(failed(Errno::BUSY));
    }
    let folder = make_folder(group).map_err(&failed)?;
    match rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    crash_point!(MountPointMade);
    // A directory of this folder itself: not a link, not what is mounted on one already.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(&folder, name.as_str(), flags, Mode::empty(), resolve)
        .map(Some)
        .map_err(failed)
}

/// The folder of the mount of this name; `None` if the device is not mounted there.
pub(super) fn mounted(node: &OwnedFd, name: &SnapshotName) -> Result<Option<OwnedFd>, Failure> {
    let failed = failed(Stage::Detach);
    let is_mounted = points(node).map_err(&failed)?.contains(&path(name));
    is_mounted.then(open_folder).transpose().map_err(failed)
}

/// Refuses what is mounted by us: it is not handed out at the same time.
pub(super) fn require_unmounted(node: &OwnedFd) -> Result<(), Failure> {
    let failed = failed(Stage::DeviceCheck);
    let beneath = format!("{MOUNTS}/");
    let points = points(node).map_err(&failed)?;
    if points.iter().any(|at| at.starts_with(&beneath)) { Err(failed(Errno::BUSY)) } else { Ok(()) }
}

fn path(name: &SnapshotName) -> String {
    format!("{MOUNTS}/{name}")
}

/// Where a device is mounted, as the kernel lists it (`proc_pid_mountinfo(5)`).
fn points(node: &OwnedFd) -> Result<Vec<String>, Errno> {
    let device = rustix::fs::fstat(node)?.st_rdev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let text = file::read_system("/proc/self/mountinfo", MOST).map_err(|_unread| Errno::IO)?;
    Ok(points_in(&String::from_utf8_lossy(&text), &number))
}

fn points_in(text: &str, number: &str) -> Vec<String> {
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_device = fields.filter(|fields| fields.get(2) == Some(&number));
    of_device.filter_map(|fields| fields.get(4).map(|point| (*point).to_owned())).collect()
}

/// Makes the folder. Who may open the devices may look into what is mounted.
fn make_folder(group: u32) -> Result<OwnedFd, Errno> {
    let parent = MOUNTS.rsplit_once('/').map_or("/run", |(parent, _)| parent);
    for (path, mode, group) in [(parent, 0o755, None), (MOUNTS, 0o750, Some(group))] {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => {
                let owner = group.map(Gid::from_raw);
                let place = rustix::fs::CWD;
                rustix::fs::chownat(place, path, None, owner, AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    open_folder()
}

fn open_folder() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(MOUNTS, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    file::check(&stat, FileType::Directory, file::WRITE).map_err(|_untrusted| Errno::PERM)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_device_and_not_by_its_name() {
        let text = "22 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n\
                    90 22 253:3 / /run/airlock/mnt/web rw,nosuid,nodev shared:9 - ext4 /proc/self/fd/3 rw\n\
                    91 22 253:31 / /run/airlock/mnt/253:3 rw - ext4 x rw\n\
                    92 22 253:3 / /srv/elsewhere rw - ext4 y rw\n";
        assert_eq!(points_in(text, "253:3"), ["/run/airlock/mnt/web", "/srv/elsewhere"]);
        assert_eq!(points_in(text, "253:4"), Vec::<String>::new());
        assert_eq!(points_in("", "253:3"), Vec::<String>::new());
    }
}
