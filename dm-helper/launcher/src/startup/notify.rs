//! Tells systemd that the helper is ready (`sd_notify(3)`): one datagram.

use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Says that the helper is ready, if anybody asked.
pub(super) fn ready() -> Result<(), Errno> {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    // An abstract address could not be reached: Landlock closes those. systemd's own is a path.
    if !address.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    let address = SocketAddrUnix::new(address.as_bytes())?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::sendto(&socket, b"READY=1", SendFlags::NOSIGNAL, &address)?;
    Ok(())
}
