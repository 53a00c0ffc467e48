//! What an attacker finds: the descriptors of its role, and gifts that make the attempts harder to
//! refuse than a real one's would be.

use std::io;
use std::os::fd::RawFd;

use crate::kernel::{at, call};

/// An attempt.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) act: fn(&Scene) -> io::Result<()>,
    pub(crate) control: Control,
}

/// What comes of an attempt that nothing confines.
#[derive(Clone, Copy)]
pub(crate) enum Control {
    Works,
    /// It fails with one of these, for this reason: the kernel got as far as looking at it.
    Fails(&'static [i32], &'static str),
    /// It is not made: what it would do is said.
    NotMade(&'static str),
}

impl Attempt {
    pub(crate) const fn works(name: &'static str, act: fn(&Scene) -> io::Result<()>) -> Self {
        Self { name, act, control: Control::Works }
    }

    pub(crate) const fn fails(
        name: &'static str,
        (errnos, why): (&'static [i32], &'static str),
        act: fn(&Scene) -> io::Result<()>,
    ) -> Self {
        Self { name, act, control: Control::Fails(errnos, why) }
    }
}

/// Where the attempts are made.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    /// The volume of a worker; otherwise the current folder.
    pub(crate) mount: u64,
    /// The blob of a worker; otherwise a file opened for reading.
    pub(crate) blob: u64,
    /// The report pipe of a worker, the link of a broker.
    pub(crate) link: u64,
    /// `/dev/mapper/control` of a broker, where there is devicemapper.
    pub(crate) control: Option<u64>,
    /// Who started the attacker.
    pub(crate) launcher: u64,
    /// A process that nobody confines, and a descriptor for it: a gift.
    pub(crate) victim: u64,
    pub(crate) victim_pidfd: u64,
    /// A descriptor of a namespace that is not its own: a gift.
    pub(crate) namespace: u64,
    /// A handle of a file of the host: a gift.
    pub(crate) handle: Handle,
}

/// `struct file_handle` with room for the largest (`MAX_HANDLE_SZ`).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Handle {
    bytes: u32,
    kind: i32,
    opaque: [u8; 128],
}

impl Scene {
    /// Prepares the scene around a role's descriptors.
    pub(crate) fn new([mount, blob, link]: [RawFd; 3]) -> Self {
        let victim = victim();
        let fd = |fd: RawFd| fd as u64;
        Self {
            mount: crate::kernel::number(mount),
            blob: fd(blob),
            link: fd(link),
            control: None,
            launcher: call(libc::SYS_getppid, &[]).unwrap_or_default(),
            victim,
            victim_pidfd: call(libc::SYS_pidfd_open, &[victim, 0]).unwrap_or(99),
            namespace: gift(c"/proc/self/ns/uts"),
            handle: handle(),
        }
    }
}

fn gift(path: &std::ffi::CStr) -> u64 {
    crate::kernel::open(crate::kernel::HERE, path, libc::O_RDONLY).unwrap_or(99)
}

/// A process that waits for the end of this one.
fn victim() -> u64 {
    let mut pipe = [0_i32; 2];
    // SAFETY: two integers, as pipe2(2) writes them.
    unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) };
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: closes what this process does not use.
        unsafe { libc::close(pipe[1]) };
        let byte = [0_u8; 1];
        drop(call(libc::SYS_read, &[pipe[0] as u64, at(&byte), 1]));
        std::process::exit(0);
    }
    child as u64
}

fn handle() -> Handle {
    let handle = Handle { bytes: 128, kind: 0, opaque: [0; 128] };
    let mount = 0_i32;
    let path = c"/etc/passwd".to_bytes_with_nul();
    let arguments = [crate::kernel::HERE, at(path), at(&handle), at(&mount), 0];
    drop(call(libc::SYS_name_to_handle_at, &arguments));
    handle
}
