//! Landlock: which files a worker reaches. The kernel must enforce all of it, or the worker ends.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::Confinement;
use crate::tool::Tool;

/// What a kernel offers, newest first: Linux 6.12 has the sixth version, and the third is
/// required (docs: Linux 6.6).
const VERSIONS: [ABI; 4] = [ABI::V6, ABI::V5, ABI::V4, ABI::V3];

/// Landlock does not hold the worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRestricted {
    /// The kernel lacks it, or refused.
    #[error("the kernel does not enforce the rules")]
    Ruleset(#[from] RulesetError),
    /// A path of the rules could not be opened.
    #[error("a path of the rules cannot be opened")]
    Path(#[from] landlock::PathFdError),
    /// Something was left out.
    #[error("the rules are enforced in part: {0:?}")]
    Partly(RulesetStatus),
}

/// Leaves nothing but the tree beneath the mount, to be written or only to be read.
pub(super) fn allow_mount(
    mount: BorrowedFd<'_>,
    confinement: Confinement,
) -> Result<(), NotRestricted> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Not among them: devices, sockets, and running a program.
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::MakeFifo
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        // Hard links from one directory into another.
        | AccessFs::Refer;
    let rights = match confinement {
        Confinement::Extraction { .. } => read | write,
        Confinement::Verification => read,
    };
    let (ruleset, _) = newest_ruleset()?;
    enforced(ruleset.add_rule(PathBeneath::new(mount, rights))?.restrict_self()?)
}

/// Leaves the system's programs, to be run, and one device.
pub(super) fn allow_tool(tool: Tool, device: &str) -> Result<(), NotRestricted> {
    let run = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let (mut ruleset, version) = newest_ruleset()?;
    for path in ["/usr", "/lib", "/lib64", "/bin", "/sbin"] {
        // Where these are links into /usr, the rule is said twice; where they are missing, not.
        if let Ok(path) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, run))?;
        }
    }
    if let Ok(cache) = PathFd::new("/etc/ld.so.cache") {
        ruleset = ruleset.add_rule(PathBeneath::new(cache, AccessFs::ReadFile))?;
    }
    let mut rights = BitFlags::from(AccessFs::ReadFile);
    if version >= ABI::V5 {
        // The size of a device is asked for by an ioctl.
        rights |= AccessFs::IoctlDev;
    }
    if matches!(tool, Tool::Format | Tool::Grow) {
        rights |= AccessFs::WriteFile;
    }
    if matches!(tool, Tool::Grow) {
        // It looks whether the device is mounted, and ends where it cannot.
        let own = PathFd::new("/proc/self")?;
        ruleset = ruleset.add_rule(PathBeneath::new(own, AccessFs::ReadFile))?;
    }
    let ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(device)?, rights))?;
    enforced(ruleset.restrict_self()?)
}

/// A ruleset that denies all that the newest version the kernel knows can deny.
fn newest_ruleset() -> Result<(RulesetCreated, ABI), RulesetError> {
    let [newest, older @ ..] = VERSIONS;
    let mut made = ruleset(newest);
    let mut version = newest;
    for older in older {
        if made.is_ok() {
            break;
        }
        made = ruleset(older);
        version = older;
    }
    Ok((made?, version))
}

fn ruleset(version: ABI) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(version))?;
    if version >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(version))?;
    }
    if version >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(version))?;
    }
    ruleset.create()
}

fn enforced(status: RestrictionStatus) -> Result<(), NotRestricted> {
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        status @ (RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced) => {
            Err(NotRestricted::Partly(status))
        }
    }
}
