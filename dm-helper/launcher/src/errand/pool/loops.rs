//! Attaches a file to a loop device, or finds the one that has it.

use std::os::fd::{AsFd as _, OwnedFd};

use airlock_sys::loop_device::{self, Attached};
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::log::log;

/// How often a free device is asked for: each time somebody else may be quicker.
const TRIES: u32 = 64;

/// The loop device of a file. It stays attached when the launcher ends: the pool goes on.
pub(super) fn attach(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    if let Some(device) = find(file)? {
        // The file may have grown since.
        loop_device::take_up_size(device.as_fd()).map_err(|error| errno(&error))?;
        return Ok(device);
    }
    let control = open("/dev/loop-control")?;
    for _ in 0..TRIES {
        let number = loop_device::free_number(control.as_fd()).map_err(|error| errno(&error))?;
        let device = open(&format!("/dev/loop{number}"))?;
        // Past the page cache: "flushed" then means the disk, and no page is kept twice.
        let attached = loop_device::attach(device.as_fd(), file.as_fd(), true)
            .or_else(|error| match errno(&error) {
                Errno::INVAL => {
                    log("the state directory's filesystem takes no direct I/O: done without");
                    loop_device::attach(device.as_fd(), file.as_fd(), false)
                }
                _ => Err(error),
            })
            .map_err(|error| errno(&error));
        match attached {
            Err(Errno::BUSY) => {}
            other => {
                crash_point!(LoopAttached);
                return other.map(|()| device);
            }
        }
    }
    Err(Errno::BUSY)
}

/// The device that has this very file, whole. Two devices of one file would not see each other's
/// writes, so one that has a part of it is a conflict.
pub(super) fn find(file: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let stat = rustix::fs::fstat(file)?;
    let blocks = rustix::fs::open(
        "/sys/block",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for entry in Dir::read_from(&blocks)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with("loop") {
            continue;
        }
        // A device that goes away meanwhile is nobody's.
        let Ok(device) = open(&format!("/dev/{name}")) else { continue };
        let Ok(attached) = loop_device::attached(device.as_fd()) else { continue };
        let Attached { device: holder, inode, offset, size_limit } = attached;
        if (holder, inode) == (stat.st_dev, stat.st_ino) {
            return if (offset, size_limit) == (0, 0) {
                Ok(Some(device))
            } else {
                Err(Errno::BUSY)
            };
        }
    }
    Ok(None)
}

/// Detaches a file from its loop device. The kernel does it when the last descriptor is closed,
/// and udev may hold one for a moment.
pub(super) fn detach(file: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..TRIES {
        let Some(device) = find(file)? else { return Ok(()) };
        loop_device::detach(device.as_fd()).map_err(|error| errno(&error))?;
        drop(device);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Err(Errno::BUSY)
}

fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
