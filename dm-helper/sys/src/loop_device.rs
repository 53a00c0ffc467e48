//! Loop devices: a file as a block device (loop(4)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// `LO_FLAGS_DIRECT_IO`: the file is read and written past the page cache.
const DIRECT_IO: u32 = 16;

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4C07;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

/// `struct loop_info64` (linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const fn zeroed() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config` (linux/loop.h).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// What a loop device is attached to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attached {
    /// The device that holds the file, as the kernel encodes it for `stat`.
    pub device: u64,
    /// The file's inode number.
    pub inode: u64,
    /// Where in the file the device begins, in bytes.
    pub offset: u64,
    /// The device's length, in bytes; 0 for the whole file.
    pub size_limit: u64,
}

/// The number of a loop device that is free, made if need be. Another process may take it first.
pub fn free_number(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: the ioctl takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    super::check(number)
        .and_then(|n| u32::try_from(n).map_err(|_negative| io::ErrorKind::InvalidData.into()))
}

/// Attaches a file to a loop device, whole. `EBUSY` if the device has one already.
pub fn attach(device: BorrowedFd<'_>, file: BorrowedFd<'_>, direct_io: bool) -> io::Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_negative| io::ErrorKind::InvalidInput)?;
    let mut info = LoopInfo::zeroed();
    info.flags = if direct_io { DIRECT_IO } else { 0 };
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the ioctl reads one struct loop_config, which `config` is and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    super::check(result).map(drop)
}

/// What a loop device is attached to. `ENXIO` if it is to nothing.
pub fn attached(device: BorrowedFd<'_>) -> io::Result<Attached> {
    let mut info = LoopInfo::zeroed();
    // SAFETY: the ioctl writes one struct loop_info64, which `info` is and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    super::check(result)?;
    let LoopInfo { device, inode, offset, size_limit, .. } = info;
    Ok(Attached { device, inode, offset, size_limit })
}

/// Gives a loop device the size that its file has by now.
pub fn take_up_size(device: BorrowedFd<'_>) -> io::Result<()> {
    let unused: RawFd = 0;
    // SAFETY: the ioctl ignores its argument and touches no memory of ours.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY, unused) }).map(drop)
}

/// Detaches the file from a loop device, as soon as nobody has the device open.
pub fn detach(device: BorrowedFd<'_>) -> io::Result<()> {
    let unused: RawFd = 0;
    // SAFETY: the ioctl ignores its argument and touches no memory of ours.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD, unused) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
