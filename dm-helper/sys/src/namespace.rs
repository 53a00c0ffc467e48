//! New namespaces for the calling process.

use std::io;

use rustix::thread::UnshareFlags;

/// Moves the caller into new namespaces of these kinds (unshare(2)).
///
/// `EINVAL` for [`UnshareFlags::FILES`], which is no namespace, and for a new user namespace in a
/// process with more than one thread.
pub fn unshare(kinds: UnshareFlags) -> io::Result<()> {
    if kinds.contains(UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the one thing that makes unshare unsafe is FILES, by which a thread could be left
    // with descriptors of another table; it was excluded above.
    unsafe { rustix::thread::unshare_unsafe(kinds) }.map_err(Into::into)
}
