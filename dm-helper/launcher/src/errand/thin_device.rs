//! Recognises a thin device as one of airlock's own, whoever says that it is.

use std::os::fd::OwnedFd;

use airlock_policy::errand::{Failure, Stage, ThinDevice};
use airlock_policy::name::DeviceName;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::file;
use crate::log::failed;

/// The node of a thin device, as a descriptor that can do nothing but name it. Devicemapper itself
/// must say that the device of this minor number has the name and the uuid of the thin id.
pub(super) fn recognise(device: ThinDevice) -> Result<OwnedFd, Failure> {
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
    let name = DeviceName::Thin(thin);
    let expected = [("name", name.to_string()), ("uuid", name.uuid())];
    for (attribute, expected) in expected {
        let major = rustix::fs::major(stat.st_rdev);
        let path = format!("/sys/dev/block/{major}:{minor}/dm/{attribute}");
        // Only devicemapper's devices have these.
        let text = file::read_system(&path, 256).map_err(|_not_ours| failed(Errno::NODEV))?;
        if text.trim_ascii_end() != expected.as_bytes() {
            return Err(failed(Errno::NODEV));
        }
    }
    Ok(node)
}
