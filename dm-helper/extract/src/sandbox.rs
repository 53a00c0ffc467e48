//! How a worker gives up all that its job does not need: straight down, in this order (PROC-3).

mod landlock_rules;
mod system_calls;

use std::os::fd::{AsFd, OwnedFd};

use airlock_policy::worker::{ExtractOrder, VerifyOrder};
use airlock_sys::system_calls::{Listed, Otherwise};
use caps::{CapSet, Capability, CapsHashSet};
use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{Gid, LinkNameSpaceType, Uid, UnshareFlags};

use crate::threads::{Flusher, Reader};
use crate::tool::Tool;
use crate::volume::DIRECTORY;

/// The worker is not confined, and so does nothing.
#[derive(Debug, thiserror::Error)]
#[error("confine the worker: {step}")]
pub struct NotConfined {
    step: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl NotConfined {
    /// The errno of the kernel's refusal, if it was one.
    pub(crate) fn errno(&self) -> i32 {
        let source = self.source.as_ref();
        source
            .downcast_ref::<rustix::io::Errno>()
            .map(|errno| errno.raw_os_error())
            .or_else(|| source.downcast_ref::<std::io::Error>()?.raw_os_error())
            .unwrap_or_default()
    }
}

/// What names the step that failed.
fn at<E>(step: &'static str) -> impl FnOnce(E) -> NotConfined
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| NotConfined { step, source: error.into() }
}

/// The capabilities of an extraction, inside its user namespace. On the host they are nothing:
/// they count for inodes of the mount whose ids are mapped into the namespace, and for no other.
const CAPABILITIES: [Capability; 5] = [
    // To give files to any user of the image.
    Capability::CAP_CHOWN,
    // To write into directories that the image closed to its own root.
    Capability::CAP_DAC_OVERRIDE,
    // To set mode, times and attributes of files given away.
    Capability::CAP_FOWNER,
    // To keep a setgid bit of a group that the worker is not in.
    Capability::CAP_FSETID,
    // To write file capabilities.
    Capability::CAP_SETFCAP,
];

/// The one of a verification: to read what the image closed to its own root.
const READER: [Capability; 1] = [Capability::CAP_DAC_READ_SEARCH];

/// What a worker in a volume may do there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Confinement {
    /// Write into it, no file larger than this.
    Extraction {
        /// In bytes.
        file_bytes: u64,
    },
    /// Read it.
    Verification,
}

/// Open descriptors at most: bounds how deep a tree can be (see `tree` and `remove`).
pub(crate) const MAX_OPEN: u64 = 1024;

/// Confines an extraction. Afterwards the process can read the blob, write beneath the mount,
/// report, and nothing else. Returns its other threads, which are confined likewise.
pub fn confine_extraction(
    order: &ExtractOrder,
    mount: &OwnedFd,
    user_namespace: OwnedFd,
) -> Result<(Reader, Flusher), NotConfined> {
    let confinement = Confinement::Extraction { file_bytes: order.limits.file_bytes };
    enter(confinement, order.memory, mount, user_namespace)?;
    let root = rustix::fs::openat(mount, c".", DIRECTORY, Mode::empty());
    let root = root.map_err(at("open the volume's root"))?;
    let reader = Reader::start().map_err(at("start its reading thread"))?;
    let flusher = Flusher::start(root).map_err(at("start its flushing thread"))?;
    stay(confinement)?;
    Ok((reader, flusher))
}

/// Confines a verification. Afterwards the process can read what is beneath the mount, report, and
/// nothing else.
pub fn confine_verification(
    order: &VerifyOrder,
    mount: &OwnedFd,
    user_namespace: OwnedFd,
) -> Result<(), NotConfined> {
    enter(Confinement::Verification, order.memory, mount, user_namespace)?;
    stay(Confinement::Verification)
}

/// Gives up all but the volume.
fn enter(
    confinement: Confinement,
    memory: u64,
    mount: &OwnedFd,
    user_namespace: OwnedFd,
) -> Result<(), NotConfined> {
    let launcher = rustix::process::getppid();
    // Modes are the archive's.
    rustix::process::umask(Mode::empty());
    enter_namespaces(user_namespace)?;
    // Landlock does not keep it from looking at files, nor from touching their times: so there is
    // no path to any but the volume's.
    rustix::process::fchdir(mount).map_err(at("enter the volume"))?;
    rustix::process::chroot(".").map_err(at("make the volume its root"))?;
    end_with(launcher)?;
    let (file_bytes, kept): (_, &[Capability]) = match confinement {
        Confinement::Extraction { file_bytes } => (file_bytes, &CAPABILITIES),
        Confinement::Verification => (0, &READER),
    };
    limit_resources(file_bytes, memory)?;
    rustix::thread::set_no_new_privs(true).map_err(at("no_new_privs"))?;
    keep_capabilities(&kept.iter().copied().collect())?;
    landlock_rules::allow_mount(mount.as_fd(), confinement).map_err(at("Landlock"))
}

/// Gives up what only the start needed.
fn stay(confinement: Confinement) -> Result<(), NotConfined> {
    // No other thread, and no process, whatever else may fail: counted per user, and this user has
    // others.
    set_limit(Resource::Nproc, 0)?;
    system_calls::allow_listed(confinement).map_err(at("seccomp"))
}

/// Confines a tool: it can run programs of the system and open one device.
pub(crate) fn confine_tool(tool: Tool, device: &str) -> Result<(), NotConfined> {
    set_limit(Resource::Core, 0)?;
    rustix::thread::set_no_new_privs(true).map_err(at("no_new_privs"))?;
    // Its uid stays the host's 0, which owns the device's node, without a single capability.
    keep_capabilities(&CapsHashSet::new())?;
    landlock_rules::allow_tool(tool, device).map_err(at("Landlock"))
}

/// Confines a mount or an unmount: one capability, and a few system calls. Landlock would forbid
/// mounts altogether.
pub(crate) fn confine_attachment(calls: &[Listed]) -> Result<(), NotConfined> {
    set_limit(Resource::Core, 0)?;
    rustix::thread::set_no_new_privs(true).map_err(at("no_new_privs"))?;
    keep_capabilities(&std::iter::once(Capability::CAP_SYS_ADMIN).collect())?;
    airlock_sys::system_calls::allow_only(calls, Otherwise::Killed).map_err(at("seccomp"))
}

/// Becomes uid 0 of a user namespace, which is nobody on the host, without a network.
fn enter_namespaces(user_namespace: OwnedFd) -> Result<(), NotConfined> {
    rustix::thread::move_into_link_name_space(
        user_namespace.as_fd(),
        Some(LinkNameSpaceType::User),
    )
    .map_err(at("enter the user namespace"))?;
    drop(user_namespace);
    // The launcher's groups could read blobs.
    rustix::thread::set_thread_groups(&[]).map_err(at("leave all groups"))?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .map_err(at("become gid 0 of the namespace"))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .map_err(at("become uid 0 of the namespace"))?;
    // No socket could be made anyway (seccomp): this is the second lock on the same door.
    let kinds = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    airlock_sys::namespace::unshare(kinds).map_err(at("make empty namespaces"))
}

fn limit_resources(file_bytes: u64, memory: u64) -> Result<(), NotConfined> {
    // The reader refuses a larger file before it comes to this. The manifest is held to it too.
    set_limit(Resource::Fsize, file_bytes)?;
    set_limit(Resource::As, memory)?;
    set_limit(Resource::Nofile, MAX_OPEN)?;
    set_limit(Resource::Core, 0)
}

fn set_limit(resource: Resource, limit: u64) -> Result<(), NotConfined> {
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
        .map_err(at("limit resources"))
}

/// Asks again for the signal that ends a worker with its launcher: a change of ids clears it.
fn end_with(launcher: Option<Pid>) -> Result<(), NotConfined> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(at("end with the launcher"))?;
    if rustix::process::getppid() == launcher {
        Ok(())
    } else {
        // It ended while no signal was asked for.
        Err(at("end with the launcher")(std::io::Error::from(std::io::ErrorKind::NotFound)))
    }
}

fn keep_capabilities(kept: &CapsHashSet) -> Result<(), NotConfined> {
    let step = "drop capabilities";
    caps::clear(None, CapSet::Ambient).map_err(at(step))?;
    caps::clear(None, CapSet::Inheritable).map_err(at(step))?;
    caps::set(None, CapSet::Effective, kept).map_err(at(step))?;
    caps::set(None, CapSet::Permitted, kept).map_err(at(step))
}
