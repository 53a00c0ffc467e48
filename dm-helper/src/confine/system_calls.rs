//! PROC-8, seccomp: the system calls that the broker may make. Any other ends it.
//!
//! Killed, and not refused with an error: this process parses what strangers send, each call that
//! its own code makes is below, and so one that is not is somebody else's code. Its death costs
//! nothing that the next start does not read from ledger and pool; and the kernel logs it.

use airlock_sys::system_calls::{self, Listed, NotFiltered, Otherwise, When};
use libc::c_long;

use When::Always;

/// What may not be asked of memory: to be run.
const NEVER_EXECUTABLE: When = When::without(2, libc::PROT_EXEC as u64);

/// A thread of this process, as `pthread_create(3)` starts it: not another process, which would not
/// share memory and handlers, and no namespace.
const THREAD: When = When::is(
    0,
    (libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID) as u64,
);

/// A command of `/dev/mapper/control` (linux/dm-ioctl.h): `_IOWR(0xfd, number, struct dm_ioctl)`,
/// and that struct has 312 bytes. No other device has the type 0xfd.
const fn device_mapper(number: u64) -> When {
    When::is(1, 3 << 30 | 312 << 16 | 0xfd << 8 | number)
}

/// Calls that do not exist for this process: the C library tries them and does without.
const HIDDEN: &[c_long] = &[
    // Its arguments lie in memory, where a filter cannot look: threads are made by `clone`.
    libc::SYS_clone3,
    // The allocator asks for the number of processors in /sys, when a second thread first uses it.
    libc::SYS_openat,
    // The devicemapper crate asks for semaphores, to wait on udev without a bound after each
    // command: where there are none, it does not wait.
    libc::SYS_semctl,
];

/// Each call with its reason.
const ALLOWED: &[Listed] = &[
    // Connections are taken from the socket that was inherited: none is made.
    (libc::SYS_accept4, Always),
    // Who connected.
    (libc::SYS_getsockopt, When::is(2, libc::SO_PEERCRED as u64)),
    // Requests, answers, the ledger's lines, the log; the runtime's wake-ups.
    (libc::SYS_read, Always),
    (libc::SYS_write, Always),
    (libc::SYS_writev, Always),
    (libc::SYS_recvfrom, Always),
    (libc::SYS_sendto, Always),
    (libc::SYS_shutdown, Always),
    (libc::SYS_close, Always),
    // The ledger's lines reach the disk, or are taken back.
    (libc::SYS_fdatasync, Always),
    (libc::SYS_ftruncate, Always),
    // devicemapper, and of its commands those that are used: not "remove all", no renaming, no
    // wait without a bound.
    (libc::SYS_ioctl, device_mapper(0)),  // DM_VERSION
    (libc::SYS_ioctl, device_mapper(2)),  // DM_LIST_DEVICES
    (libc::SYS_ioctl, device_mapper(3)),  // DM_DEV_CREATE
    (libc::SYS_ioctl, device_mapper(4)),  // DM_DEV_REMOVE
    (libc::SYS_ioctl, device_mapper(6)),  // DM_DEV_SUSPEND, which resumes too
    (libc::SYS_ioctl, device_mapper(7)),  // DM_DEV_STATUS
    (libc::SYS_ioctl, device_mapper(9)),  // DM_TABLE_LOAD
    (libc::SYS_ioctl, device_mapper(12)), // DM_TABLE_STATUS
    (libc::SYS_ioctl, device_mapper(14)), // DM_TARGET_MSG
    // The socket becomes non-blocking.
    (libc::SYS_ioctl, When::is(1, libc::FIONBIO)),
    // The devicemapper crate waits between attempts to remove a device that udev looks at.
    (libc::SYS_clock_nanosleep, Always),
    // The runtime waits for sockets and for its own event counter.
    (libc::SYS_epoll_create1, Always),
    (libc::SYS_epoll_ctl, Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, Always),
    (libc::SYS_epoll_pwait, Always),
    (libc::SYS_eventfd2, Always),
    // A pair between its own ends: where it is built with signals, it wakes itself by one.
    (libc::SYS_socketpair, When::is(0, libc::AF_UNIX as u64)),
    // It keeps a second descriptor of the first, and looks whether it may block on one; debug builds
    // ask whether one is open at all.
    (libc::SYS_fcntl, When::is(1, libc::F_DUPFD_CLOEXEC as u64)),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFL as u64)),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFD as u64)),
    // Threads: how they are made, named, locked and ended.
    (libc::SYS_clone, THREAD),
    (libc::SYS_set_robust_list, Always),
    (libc::SYS_rseq, Always),
    (libc::SYS_prctl, When::is(0, libc::PR_SET_NAME as u64)),
    (libc::SYS_sched_getaffinity, Always),
    (libc::SYS_sched_yield, Always),
    (libc::SYS_gettid, Always),
    (libc::SYS_futex, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
    // Memory, never to be run.
    (libc::SYS_brk, Always),
    (libc::SYS_mmap, NEVER_EXECUTABLE),
    (libc::SYS_mprotect, NEVER_EXECUTABLE),
    (libc::SYS_mremap, Always),
    (libc::SYS_munmap, Always),
    (libc::SYS_madvise, Always),
    // Keys of hash tables; the clock where the vDSO has none.
    (libc::SYS_getrandom, Always),
    (libc::SYS_clock_gettime, Always),
    // Hidden, and so not to be killed for: the stricter of the two answers counts.
    (libc::SYS_clone3, Always),
    (libc::SYS_openat, Always),
    (libc::SYS_semctl, Always),
];

/// Loads the filters. They cannot be lifted again.
pub(super) fn allow_listed() -> Result<(), NotFiltered> {
    // Hidden calls first: the list allows no third filter.
    system_calls::hide(HIDDEN)?;
    system_calls::allow_only(ALLOWED, Otherwise::Killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        assert!(system_calls::is_consistent(ALLOWED));
    }

    #[test]
    fn what_is_hidden_is_not_killed_for() {
        let listed = |call: &&c_long| ALLOWED.contains(&(**call, Always));
        assert_eq!(HIDDEN.iter().filter(listed).count(), HIDDEN.len());
    }

    #[test]
    fn no_call_leads_out() {
        for call in [
            libc::SYS_openat2,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_mount,
            libc::SYS_fsopen,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_pidfd_open,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ] {
            assert!(ALLOWED.iter().all(|(allowed, _)| *allowed != call), "{call}");
        }
    }
}
