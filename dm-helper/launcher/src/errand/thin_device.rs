//! Recognises a thin device as one of airlock's own, whoever says that it is (LINK-2).
//!
//! A broker that was taken over can give any device any name. So a device is known by what it
//! stands on too: on the pool, which stands on the two devices that this launcher opened.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use airlock_policy::errand::{Backing, BlockDevice, Failure, Stage, ThinDevice};
use airlock_policy::name::DeviceName;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::file;
use crate::log::failed;

/// The node of a thin device, as a descriptor that can do nothing but name it. Devicemapper itself
/// must say that the device of this minor number has the name and the uuid of the thin id, made to
/// be handed out or not, and stands on the pool of `backing`.
pub(super) fn recognise(
    device: ThinDevice,
    is_out: bool,
    backing: &Backing,
) -> Result<OwnedFd, Failure> {
    let ThinDevice { thin, minor } = device;
    let failed = failed(Stage::DeviceCheck);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node =
        rustix::fs::open(format!("/dev/dm-{minor}"), flags, Mode::empty()).map_err(&failed)?;
    let stat = rustix::fs::fstat(&node).map_err(&failed)?;
    let is_block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    if !is_block || rustix::fs::minor(stat.st_rdev) != minor {
        return Err(failed(Errno::NODEV));
    }
    let major = rustix::fs::major(stat.st_rdev);
    let name = DeviceName::Thin(thin);
    let uuid = if is_out { name.handed_out_uuid() } else { name.uuid() };
    stands(&format!("{major}:{minor}"), (name, uuid), backing).map_err(failed)?;
    Ok(node)
}

/// Requires that the device of this number is the one of this name, on the pool of `backing`.
fn stands(
    number: &str,
    (name, uuid): (DeviceName, String),
    backing: &Backing,
) -> Result<(), Errno> {
    for (attribute, expected) in [("name", name.to_string()), ("uuid", uuid)] {
        let path = format!("/sys/dev/block/{number}/dm/{attribute}");
        // Only devicemapper's devices have these.
        let text = file::read_system(&path, 256).map_err(|_not_ours| Errno::NODEV)?;
        if text.trim_ascii_end() != expected.as_bytes() {
            return Err(Errno::NODEV);
        }
    }
    let below = below(number)?;
    match name {
        DeviceName::Thin(_) => match below.iter().next() {
            Some(pool) if below.len() == 1 => {
                stands(pool, (DeviceName::Pool, DeviceName::Pool.uuid()), backing)
            }
            Some(_) | None => Err(Errno::NODEV),
        },
        DeviceName::Pool => {
            let number = |device: BlockDevice| format!("{}:{}", device.major, device.minor);
            let opened = BTreeSet::from([number(backing.data), number(backing.metadata)]);
            if below == opened { Ok(()) } else { Err(Errno::NODEV) }
        }
    }
}

/// The numbers of the devices that a device's table maps to, as the kernel lists them.
fn below(number: &str) -> Result<BTreeSet<String>, Errno> {
    let folder = format!("/sys/dev/block/{number}/slaves");
    let entries = std::fs::read_dir(folder).map_err(|_none| Errno::NODEV)?;
    let mut numbers = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|_gone| Errno::NODEV)?;
        let path = entry.path().join("dev");
        let text = file::read_system(&path.to_string_lossy(), 64).map_err(|_gone| Errno::NODEV)?;
        numbers.insert(String::from_utf8_lossy(text.trim_ascii_end()).into_owned());
    }
    Ok(numbers)
}
