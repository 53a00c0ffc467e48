//! Attempts at other processes, at the kernel, at the network, at the attacker's own bounds.

use std::io;

use crate::kernel::{HERE, at, call, does, number, open};
use crate::scene::{Attempt, Scene};

type Fails = (&'static [i32], &'static str);

const NO_PROGRAM: Fails = (&[libc::ENOEXEC, libc::EINVAL], "the bytes are no module");

macro_rules! text {
    ($text:literal) => {
        at($text.to_bytes_with_nul())
    };
}

fn exec(path: &std::ffi::CStr) -> io::Result<()> {
    let name = path.as_ptr();
    let arguments = [name, std::ptr::null()];
    does(libc::SYS_execve, &[at(path.to_bytes_with_nul()), at(&arguments), at(&arguments[1..])])
}

/// Makes a process; the new one ends at once.
fn fork(number: libc::c_long, arguments: &[u64]) -> io::Result<()> {
    if call(number, arguments)? == 0 {
        // SAFETY: ends the process without running anything that was left by its parent.
        unsafe { libc::_exit(0) };
    }
    Ok(())
}

fn socket(family: i32, kind: i32) -> io::Result<u64> {
    call(libc::SYS_socket, &[number(family), number(kind), 0])
}

fn connect(path: &[u8]) -> io::Result<()> {
    let mut address = [0_u8; 110];
    address[0] = 1;
    address[2..2 + path.len()].copy_from_slice(path);
    let length = 2 + path.len() as u64;
    let own = socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    does(libc::SYS_connect, &[own, at(&address), length])
}

/// `struct iovec` of a value.
fn vector(bytes: &[u8]) -> [u64; 2] {
    [at(bytes), bytes.len() as u64]
}

/// Attempts at other processes and their namespaces.
pub(crate) const PROCESSES: &[Attempt] = &[
    Attempt::works("run another program", |_| exec(c"/bin/true")),
    Attempt::works("run what it was given to read as a program", |scene| {
        let none = [0_u64];
        let flags = number(libc::AT_EMPTY_PATH);
        match does(libc::SYS_execveat, &[scene.blob, text!(c""), at(&none), at(&none), flags]) {
            // Not executable, for root, is what the file says; the attempt got that far.
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok(()),
            other => other,
        }
    }),
    Attempt::works("fork", |_| fork(libc::SYS_clone, &[number(libc::SIGCHLD)])),
    Attempt::works("make a process by clone3", |_| {
        let mut arguments = [0_u64; 11];
        arguments[4] = number(libc::SIGCHLD);
        fork(libc::SYS_clone3, &[at(&arguments), 88])
    }),
    Attempt::works("make a process in a user namespace of its own", |_| {
        fork(libc::SYS_clone, &[number(libc::CLONE_NEWUSER | libc::SIGCHLD)])
    }),
    Attempt::works("make a user namespace", |_| {
        does(libc::SYS_unshare, &[number(libc::CLONE_NEWUSER)])
    }),
    Attempt::works("make a mount namespace", |_| {
        does(libc::SYS_unshare, &[number(libc::CLONE_NEWNS)])
    }),
    Attempt::works("make a process namespace", |_| {
        does(libc::SYS_unshare, &[number(libc::CLONE_NEWPID)])
    }),
    Attempt::works("enter a namespace", |scene| does(libc::SYS_setns, &[scene.namespace, 0])),
    Attempt::works("signal its launcher", |scene| {
        does(libc::SYS_kill, &[scene.launcher, number(libc::SIGCONT)])
    }),
    Attempt::works("signal a process", |scene| {
        does(libc::SYS_kill, &[scene.victim, number(libc::SIGCONT)])
    }),
    Attempt::works("signal a process's thread", |scene| {
        does(libc::SYS_tgkill, &[scene.victim, scene.victim, number(libc::SIGCONT)])
    }),
    Attempt::works("signal a process by a descriptor", |scene| {
        let arguments = [scene.victim_pidfd, number(libc::SIGCONT), 0, 0];
        does(libc::SYS_pidfd_send_signal, &arguments)
    }),
    Attempt::works("trace a process", |scene| {
        // PTRACE_SEIZE
        does(libc::SYS_ptrace, &[0x4206, scene.victim, 0, 0])
    }),
    Attempt::works("read a process's memory", |scene| {
        let byte = [0_u8];
        let (own, other) = (vector(&byte), vector(b"x"));
        let arguments = [scene.victim, at(&own), 1, at(&other), 1, 0];
        does(libc::SYS_process_vm_readv, &arguments)
    }),
    Attempt::works("write into a process's memory", |scene| {
        let target = [0_u8];
        let (own, other) = (vector(b"x"), vector(&target));
        let arguments = [scene.victim, at(&own), 1, at(&other), 1, 0];
        does(libc::SYS_process_vm_writev, &arguments)
    }),
    Attempt::works("take a process's descriptor", |scene| {
        does(libc::SYS_pidfd_getfd, &[scene.victim_pidfd, 0, 0])
    }),
    Attempt::works("open a process", |scene| does(libc::SYS_pidfd_open, &[scene.victim, 0])),
    Attempt::works("compare processes", |scene| {
        does(libc::SYS_kcmp, &[scene.victim, scene.launcher, 2, 0, 0])
    }),
    Attempt::works("give a process another priority", |scene| {
        does(libc::SYS_setpriority, &[0, scene.victim, 1])
    }),
    Attempt::works("run before all others", |_| {
        does(libc::SYS_sched_setscheduler, &[0, number(libc::SCHED_FIFO), at(&1_u32)])
    }),
];

/// Attempts at the kernel.
pub(crate) const KERNEL: &[Attempt] = &[
    Attempt::works("load a program into the kernel (bpf)", |_| {
        // BPF_MAP_CREATE of an array: type, key, value, entries.
        let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        does(libc::SYS_bpf, &[0, at(&attributes), 72])
    }),
    Attempt::works("set an io_uring up", |_| {
        let parameters = [0_u8; 120];
        does(libc::SYS_io_uring_setup, &[1, at(&parameters)])
    }),
    Attempt::works("handle its own page faults", |_| does(libc::SYS_userfaultfd, &[0])),
    Attempt::works("count events", |scene| {
        let mut attributes = [0_u32; 32];
        attributes[..2].copy_from_slice(&[1, 128]);
        let none = number(-1);
        does(libc::SYS_perf_event_open, &[at(&attributes), scene.victim, none, none, 0])
    }),
    Attempt::fails("load a module", NO_PROGRAM, |_| {
        does(libc::SYS_init_module, &[at(&[0_u8; 64]), 64, text!(c"")])
    }),
    Attempt::fails("load what it was given to read as a module", NO_PROGRAM, |scene| {
        does(libc::SYS_finit_module, &[scene.blob, text!(c""), 0])
    }),
    Attempt {
        name: "replace the kernel",
        act: |_| does(libc::SYS_kexec_load, &[0, 0, 0, 0]),
        control: crate::scene::Control::NotMade("it would forget a kernel that the host loaded"),
    },
    Attempt {
        name: "restart the machine",
        act: |_| does(libc::SYS_reboot, &[0xfee1_dead, 672_274_793, 0, 0]),
        control: crate::scene::Control::NotMade("it is about this machine"),
    },
    Attempt::works("read the kernel's log", |_| {
        let lines = [0_u8; 64];
        does(libc::SYS_syslog, &[3, at(&lines), 64])
    }),
    Attempt::works("rename the host", |_| does(libc::SYS_sethostname, &[at(b"attempt"), 7])),
    Attempt::fails("set the clock", (&[libc::EINVAL], "the time is none"), |_| {
        does(libc::SYS_clock_settime, &[0, at(&[0_u64, 2_000_000_000])])
    }),
    Attempt::fails("swap to a file", (&[libc::EINVAL, libc::EBUSY], "it is no swap space"), |_| {
        does(libc::SYS_swapon, &[text!(c"/etc/passwd"), 0])
    }),
    Attempt::works("make a key", |_| {
        let arguments = [text!(c"user"), text!(c"attempt"), at(b"x"), 1, number(-1)];
        does(libc::SYS_add_key, &arguments)
    }),
    Attempt::works("find the session's keys", |_| {
        // KEYCTL_GET_KEYRING_ID of the session keyring, made if need be.
        does(libc::SYS_keyctl, &[0, number(-3), 1])
    }),
    #[cfg(target_arch = "x86_64")]
    Attempt::works("reach ports of the machine", |_| does(libc::SYS_iopl, &[3])),
    Attempt::works("share memory", |_| {
        does(libc::SYS_shmget, &[0, 4096, number(libc::IPC_CREAT | 0o600)])
    }),
    Attempt::works("make a message queue", |_| {
        does(libc::SYS_msgget, &[0, number(libc::IPC_CREAT | 0o600)])
    }),
];

/// Attempts at the network and other sockets.
pub(crate) const SOCKETS: &[Attempt] = &[
    Attempt::works("make a local socket", |_| socket(libc::AF_UNIX, libc::SOCK_DGRAM).map(drop)),
    Attempt::works("make a TCP socket", |_| socket(libc::AF_INET, libc::SOCK_STREAM).map(drop)),
    Attempt::works("make a UDP socket", |_| socket(libc::AF_INET6, libc::SOCK_DGRAM).map(drop)),
    Attempt::works("make a netlink socket", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW).map(drop)),
    Attempt::fails("make a packet socket", (&[libc::EAFNOSUPPORT], "this kernel has none"), |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW).map(drop)
    }),
    Attempt::fails(
        "make a socket to the hypervisor",
        (&[libc::EAFNOSUPPORT, libc::ENODEV], "this kernel has none"),
        |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM).map(drop),
    ),
    Attempt::fails(
        "connect to an abstract socket",
        (&[libc::ECONNREFUSED], "nobody listens"),
        |_| connect(b"\0airlock-attempt"),
    ),
    Attempt::fails(
        "connect to the helper's socket",
        (&[libc::ENOENT], "no helper runs beside the control"),
        |_| connect(b"/run/airlock-helper/dm-helper.sock"),
    ),
    Attempt::fails(
        "connect to a port of the host",
        (&[libc::ECONNREFUSED], "nobody listens"),
        |_| {
            // 127.0.0.1:1
            let address = [2_u8, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            let own = socket(libc::AF_INET, libc::SOCK_STREAM)?;
            does(libc::SYS_connect, &[own, at(&address), 16])
        },
    ),
];

/// Attempts at the bounds of the attacker itself.
pub(crate) const BOUNDS: &[Attempt] = &[
    Attempt::works("become a user outside of the map", |_| {
        let id = 2_147_483_647;
        does(libc::SYS_setresuid, &[id, id, id])
    }),
    Attempt::works("take capabilities", |_| {
        // The third version, this thread: effective, permitted, inheritable, twice.
        let (header, sets) = ([0x2008_0522_u32, 0], [0x0020_0000_u32, 0x0020_0000, 0, 0, 0, 0]);
        does(libc::SYS_capset, &[at(&header), at(&sets)])
    }),
    Attempt::works("let others read its memory", |_| {
        does(libc::SYS_prctl, &[number(libc::PR_SET_DUMPABLE), 1, 0, 0, 0])
    }),
    Attempt::works("outlive its launcher", |_| {
        does(libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG), 0, 0, 0, 0])
    }),
    Attempt::works("raise a limit", |_| {
        // RLIMIT_NOFILE
        does(libc::SYS_prlimit64, &[0, 7, at(&[2048_u64, 2048]), 0])
    }),
    Attempt::works("change another's limit", |scene| {
        does(libc::SYS_prlimit64, &[scene.victim, 7, at(&[64_u64, 64]), 0])
    }),
    Attempt::works("change how programs run", |_| {
        does(libc::SYS_personality, &[number(libc::ADDR_NO_RANDOMIZE)])
    }),
    Attempt::works("make memory that can be run", |_| {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let arguments = [0, 4096, number(protection), number(flags), number(-1), 0];
        does(libc::SYS_mmap, &arguments)
    }),
    Attempt::works("let memory be run", |_| {
        let flags = number(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page =
            call(libc::SYS_mmap, &[0, 4096, number(libc::PROT_WRITE), flags, number(-1), 0])?;
        does(libc::SYS_mprotect, &[page, 4096, number(libc::PROT_READ | libc::PROT_EXEC)])
    }),
    Attempt::works("lift its filter by another", |_| {
        // SECCOMP_GET_ACTION_AVAIL: a filter cannot be lifted, this asks whether the call is left.
        does(libc::SYS_seccomp, &[2, 0, at(&0x7fff_0000_u32)])
    }),
    Attempt::works("make files of the host its current folder", |_| {
        let host = open(HERE, c"/", libc::O_RDONLY)?;
        does(libc::SYS_fchdir, &[host])?;
        open(HERE, c"etc/passwd", libc::O_RDONLY).map(drop)
    }),
];

/// Attempts that are a worker's alone: a broker has no bound on its memory.
pub(crate) const WORKERS: &[Attempt] = &[Attempt::works("take 64 GiB of memory", |_: &Scene| {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let arguments = [0, 64 << 30, number(libc::PROT_READ), number(flags), number(-1), 0];
    does(libc::SYS_mmap, &arguments)
})];
