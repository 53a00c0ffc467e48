//! Makes the user namespace that all extractions live in, once a launcher.

use std::io;

use airlock_policy::worker::READY;
use rustix::thread::UnshareFlags;

/// Unshares the namespace, says so, and waits to be ended: the launcher meanwhile writes the id
/// maps and opens the namespace, which then lives as long as that descriptor.
///
/// A process of its own, since a process that enters a namespace cannot map its ids wider than
/// its own, and cannot leave it again.
pub(crate) fn hold() -> io::Result<()> {
    let launcher = airlock_sys::inherited::take(READY)?;
    airlock_sys::namespace::unshare(UnshareFlags::NEWUSER)?;
    rustix::io::write(&launcher, &[1])?;
    // Returns when the launcher closes its end; it never writes.
    rustix::io::read(&launcher, &mut [0_u8])?;
    Ok(())
}
