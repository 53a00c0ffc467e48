//! System calls as an attacker makes them: by number, with whatever arguments.

use std::io;

use libc::c_long;

/// Makes a system call.
pub(crate) fn call(number: c_long, arguments: &[u64]) -> io::Result<u64> {
    let mut all = [0_u64; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = *argument;
    }
    // SAFETY: not safe in general, which is the point. Callers pass pointers to live memory of
    // theirs; whatever else the kernel does is done to a process that was forked for this.
    let result = unsafe { libc::syscall(number, all[0], all[1], all[2], all[3], all[4], all[5]) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as u64) }
}

/// The same, where only success counts.
pub(crate) fn does(number: c_long, arguments: &[u64]) -> io::Result<()> {
    call(number, arguments).map(drop)
}

/// The address of a value.
pub(crate) fn at<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>().addr() as u64
}

/// A descriptor or another signed number as an argument.
pub(crate) const fn number(value: i32) -> u64 {
    value as i64 as u64
}

/// The current folder as a descriptor.
pub(crate) const HERE: u64 = number(libc::AT_FDCWD);

/// Opens a path, relative to a descriptor.
pub(crate) fn open(folder: u64, path: &std::ffi::CStr, flags: i32) -> io::Result<u64> {
    call(libc::SYS_openat, &[folder, at(path.to_bytes_with_nul()), number(flags), 0o600])
}
