//! The broker's confinement, before it reads the first byte of a request.
//!
//! PROC-1, straight down: an empty root, no capability but one, no file, no TCP, few system calls.
//! Each step is its own error. All of it holds for threads that start later (landlock(7),
//! capabilities(7), seccomp(2)).

mod system_calls;

use std::io;

use airlock_sys::system_calls::NotFiltered;
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus, Scope,
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::UnshareFlags;

/// The most descriptors: connections at most 64, and a handful of the process's own.
const DESCRIPTORS: u64 = 128;

/// A part of the confinement could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// A system call failed.
    #[error("cannot {doing}")]
    Call {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The capabilities could not be given up.
    #[error("cannot give up capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// The Landlock ruleset was refused.
    #[error("cannot restrict itself with Landlock")]
    Landlock(#[source] landlock::RulesetError),
    /// The kernel has no Landlock, or does not use it.
    #[error("the kernel does not enforce Landlock: it must be built in and listed in lsm=")]
    NotEnforced,
    /// The system calls could not be limited.
    #[error("cannot limit its system calls")]
    SystemCalls(#[from] NotFiltered),
}

/// Confines the process, for good. To be called while it has one thread. Answers whether every
/// part is in force: a kernel older than 6.12 knows no scopes, one older than 6.10 has no right
/// for ioctl.
pub fn confine_forever() -> Result<bool, Unconfined> {
    empty_root()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(call("keep others from reading its memory"))?;
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, limit(DESCRIPTORS))
        .map_err(call("limit its descriptors"))?;
    rustix::process::setrlimit(Resource::Core, limit(0)).map_err(call("forbid core dumps"))?;
    drop_capabilities().map_err(Unconfined::Capabilities)?;
    let whole = landlock()?;
    system_calls::allow_listed()?;
    Ok(whole)
}

/// Puts an empty, read-only directory in the place of the whole file system.
///
/// It keeps paths out of reach whatever Landlock does. And it hides `/run/udev/control`, at whose
/// sight the devicemapper crate waits for udev after each ioctl, without a bound.
fn empty_root() -> Result<(), Unconfined> {
    airlock_sys::namespace::unshare(UnshareFlags::NEWNS)
        .map_err(|source| Unconfined::Call { doing: "have a mount table of its own", source })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(call("cut its mount table off"))?;
    // Any directory serves: this one is there, since its `mapper/control` was just opened.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    rustix::mount::mount("airlock-empty", "/dev", "tmpfs", flags, c"size=4k,nr_inodes=2,mode=555")
        .map_err(call("mount an empty root"))?;
    rustix::process::chdir("/dev").map_err(call("enter the empty root"))?;
    // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one.
    rustix::process::pivot_root(".", ".").map_err(call("change to the empty root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(call("leave the old root"))?;
    rustix::process::chdir("/").map_err(call("enter the empty root"))
}

/// Keeps `CAP_SYS_ADMIN`, which device-mapper ioctls need, and nothing else.
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// A Landlock domain without one rule: no file can be opened, made, changed or executed, and no
/// mount made. The ioctls go to a descriptor that was opened before.
fn landlock() -> Result<bool, Unconfined> {
    // 6.6, the oldest kernel that is supported, has ABI 3; 6.12 has ABI 6.
    let (oldest, whole) = (ABI::V3, ABI::V6);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(oldest))
        .and_then(|rules| {
            rules
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(whole))?
                .handle_access(AccessNet::from_all(whole))?
                .scope(Scope::from_all(whole))?
                .create()?
                .restrict_self()
        })
        .map_err(Unconfined::Landlock)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(status.no_new_privs),
        RulesetStatus::PartiallyEnforced => Ok(false),
        RulesetStatus::NotEnforced => Err(Unconfined::NotEnforced),
    }
}

fn call(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Unconfined {
    move |errno| Unconfined::Call { doing, source: errno.into() }
}
