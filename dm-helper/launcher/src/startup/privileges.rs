//! What the launcher gives up, and how it cannot get it back (PROC-2).

use std::error::Error;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetError, RulesetStatus, Scope,
};
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
    close_network()
}

/// Closes TCP, abstract sockets and signals to others, by a Landlock domain without a rule on
/// files: one with such a rule could not mount (tried on Linux 6.12 and 6.18).
fn close_network() -> Result<(), Box<dyn Error>> {
    // Linux 6.12 has all of it, Linux 6.7 the first, Linux 6.6 none.
    let Some(ruleset) = [ABI::V6, ABI::V4].into_iter().find_map(|version| network(version).ok())
    else {
        return Ok(());
    };
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => {
            Err("the kernel took the Landlock rules and does not enforce them".into())
        }
    }
}

fn network(version: ABI) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::from_all(version))?;
    if version >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(version))?;
    }
    ruleset.create()
}
