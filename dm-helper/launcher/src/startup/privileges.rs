//! What the launcher gives up, and how it cannot get it back (PROC-2).

use std::error::Error;

use caps::{CapSet, Capability, CapsHashSet};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::Gid;

/// Makes nothing that others could open, unless it is opened to them.
pub(crate) fn close_by_default() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

/// Joins exactly these groups: the controller's, to read its blobs, and the nodes', to give nodes
/// to it. So neither needs a capability.
pub(super) fn join_groups(groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)
}

/// Keeps CAP_SYS_ADMIN, for mounts, and nothing else, in this process and all it will start.
pub(super) fn drop_forever() -> Result<(), Box<dyn Error>> {
    let kept: CapsHashSet = std::iter::once(Capability::CAP_SYS_ADMIN).collect();
    for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    // From here on a program that is started has at most what its starter has (capabilities(7),
    // "Capabilities and execution of programs by root": uid 0 keeps its bounding set).
    rustix::thread::set_no_new_privs(true)?;
    // Nobody reads this process's memory, whatever uid it shares.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
