//! PROC-9, seccomp: the system calls that the launcher and its workers may make. Any other fails
//! (EPERM).
//!
//! Refused, and not killed for: the list holds the workers' tools too (`mkfs.ext4`, `thin_check`),
//! which are other people's programs, of another version on each system, and do without what they
//! are refused. A launcher that is refused a call fails that errand, says so, and serves the next. An
//! extraction has a stricter list of its own, and is killed.
//!
//! The list stands in for a Landlock domain, which this process must not have: any domain that its
//! starter has, even one without a word on files, keeps a worker from making a hard link in another
//! directory (landlock(7), `LANDLOCK_ACCESS_FS_REFER`), and one with rules on files keeps the launcher
//! from mounting. So no socket is made here, and signals go to its own children only.

use airlock_sys::system_calls::{self, Listed, NotFiltered, Otherwise, When};
use libc::c_long;

use When::Always;

/// Every kind of namespace (linux/sched.h).
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWTIME) as u64;

/// The empty namespaces of an extraction, which joins its user namespace and makes these.
const EMPTY: u64 = (libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64;

/// A named pipe, as mknod(2) is asked for one.
const FIFO: When =
    When::Bits { argument: 2, mask: libc::S_IFMT as u64, value: libc::S_IFIFO as u64 };

/// Calls that do not exist here: the C library tries them and does without.
const HIDDEN: &[c_long] = &[
    // Its arguments lie in memory, where a filter cannot look: processes are made by `clone`.
    libc::SYS_clone3,
];

/// Each call with who needs it and why.
const ALLOWED: &[Listed] = &[
    // The launcher waits for errands, signals and the ends of workers, and answers.
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Always),
    (libc::SYS_ppoll, Always),
    (libc::SYS_recvfrom, Always),
    (libc::SYS_sendto, Always),
    // It starts workers, and sees or makes them end.
    (libc::SYS_clone, When::without(0, NAMESPACES)),
    (libc::SYS_execveat, Always),
    // By the descriptors that starting them gave, and no other.
    (libc::SYS_pidfd_send_signal, Always),
    (libc::SYS_waitid, Always),
    (libc::SYS_pipe2, Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, Always),
    (libc::SYS_dup3, Always),
    (libc::SYS_close_range, Always),
    (libc::SYS_fcntl, When::is(1, libc::F_DUPFD_CLOEXEC as u64)),
    (libc::SYS_fcntl, When::is(1, libc::F_SETFD as u64)),
    // For the workers: a volume's detached mount, with its ids mapped, and the attach worker's, with a list of its own:
    // onto a directory by descriptor, and off again, never lazily and never by force.
    (libc::SYS_move_mount, When::is(4, 0x44)), // F_EMPTY_PATH, T_EMPTY_PATH
    (libc::SYS_umount2, When::is(1, 0x8)),     // UMOUNT_NOFOLLOW
    (libc::SYS_fsopen, Always),
    (libc::SYS_fsconfig, Always),
    (libc::SYS_fsmount, Always),
    (libc::SYS_mount_setattr, Always),
    // Blobs are opened beneath their folder, whatever was done to it.
    (libc::SYS_openat2, Always),
    // The pool's files are found, or made; their loop devices likewise.
    (libc::SYS_openat, Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Always),
    (libc::SYS_fstat, Always),
    (libc::SYS_statx, Always),
    (libc::SYS_newfstatat, Always),
    (libc::SYS_fstatfs, Always),
    (libc::SYS_ftruncate, Always),
    (libc::SYS_fallocate, Always),
    (libc::SYS_fsync, Always),
    (libc::SYS_renameat2, Always),
    (libc::SYS_renameat, Always),
    (libc::SYS_unlinkat, Always),
    (libc::SYS_getdents64, Always),
    (libc::SYS_ioctl, When::is(1, 0x4C0A)), // LOOP_CONFIGURE
    (libc::SYS_ioctl, When::is(1, 0x4C05)), // LOOP_GET_STATUS64
    (libc::SYS_ioctl, When::is(1, 0x4C07)), // LOOP_SET_CAPACITY
    (libc::SYS_ioctl, When::is(1, 0x4C82)), // LOOP_CTL_GET_FREE
    // Snapshots' nodes get their group, mode and link.
    (libc::SYS_fchownat, Always),
    (libc::SYS_fchmodat, Always),
    (libc::SYS_mkdirat, Always),
    (libc::SYS_symlinkat, Always),
    // An extraction confines itself: `sandbox.rs` of the worker, straight down.
    (libc::SYS_getppid, Always),
    (libc::SYS_umask, Always),
    (libc::SYS_setns, When::is(1, libc::CLONE_NEWUSER as u64)),
    (libc::SYS_setgroups, Always),
    (libc::SYS_setresgid, Always),
    (libc::SYS_setresuid, Always),
    (libc::SYS_unshare, When::within(0, EMPTY)),
    (libc::SYS_fchdir, Always),
    (libc::SYS_chroot, Always),
    (libc::SYS_prlimit64, Always),
    (libc::SYS_capget, Always),
    (libc::SYS_capset, Always),
    (libc::SYS_landlock_create_ruleset, Always),
    (libc::SYS_landlock_add_rule, Always),
    (libc::SYS_landlock_restrict_self, Always),
    (libc::SYS_seccomp, Always),
    (libc::SYS_prctl, When::is(0, libc::PR_SET_PDEATHSIG as u64)),
    (libc::SYS_prctl, When::is(0, libc::PR_SET_NAME as u64)),
    (libc::SYS_prctl, When::is(0, libc::PR_SET_NO_NEW_PRIVS as u64)),
    (libc::SYS_prctl, When::is(0, libc::PR_CAP_AMBIENT as u64)),
    // It writes a tree: its own list says why each, and to what.
    (libc::SYS_fchown, Always),
    (libc::SYS_fchmod, Always),
    (libc::SYS_linkat, Always),
    // Named pipes, and no device.
    (libc::SYS_mknodat, FIFO),
    (libc::SYS_utimensat, Always),
    (libc::SYS_fsetxattr, Always),
    (libc::SYS_fgetxattr, Always),
    (libc::SYS_flistxattr, Always),
    (libc::SYS_fremovexattr, Always),
    (libc::SYS_syncfs, Always),
    // It looks the whole tree through, as a verification does.
    (libc::SYS_llistxattr, Always),
    (libc::SYS_lgetxattr, Always),
    // Tools, mkfs.ext4 and thin_check: started by the C library's loader, they ask who they are and
    // how large their device is, read it and write it. Some versions do it by several threads.
    (libc::SYS_execve, Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, Always),
    (libc::SYS_faccessat, Always),
    (libc::SYS_faccessat2, Always),
    (libc::SYS_uname, Always),
    (libc::SYS_getuid, Always),
    (libc::SYS_geteuid, Always),
    (libc::SYS_getgid, Always),
    (libc::SYS_getegid, Always),
    (libc::SYS_getrusage, Always),
    (libc::SYS_sysinfo, Always),
    (libc::SYS_dup, Always),
    (libc::SYS_prctl, When::is(0, libc::PR_GET_DUMPABLE as u64)),
    (libc::SYS_ioctl, When::is(1, 0x8008_1272)), // BLKGETSIZE64
    (libc::SYS_ioctl, When::is(1, 0x1268)),      // BLKSSZGET
    (libc::SYS_ioctl, When::is(1, 0x127B)),      // BLKPBSZGET
    (libc::SYS_ioctl, When::is(1, 0x127C)),      // BLKDISCARDZEROES
    (libc::SYS_ioctl, When::is(1, 0x125E)),      // BLKROGET
    (libc::SYS_ioctl, When::is(1, 0x127A)),      // BLKALIGNOFF
    (libc::SYS_ioctl, When::is(1, 0x1278)),      // BLKIOMIN
    (libc::SYS_ioctl, When::is(1, 0x1279)),      // BLKIOOPT
    (libc::SYS_ioctl, When::is(1, 0x0301)),      // HDIO_GETGEO
    (libc::SYS_ioctl, When::is(1, 0x8004_1284)), // BLKGETZONESZ
    (libc::SYS_fadvise64, Always),
    (libc::SYS_fdatasync, Always),
    // `thin_check` reads the metadata of a pool that is in use by asynchronous I/O (libaio).
    (libc::SYS_io_setup, Always),
    (libc::SYS_io_submit, Always),
    (libc::SYS_io_getevents, Always),
    (libc::SYS_io_cancel, Always),
    (libc::SYS_io_destroy, Always),
    // What other versions of them ask for: where they are, and what time it is.
    (libc::SYS_readlinkat, Always),
    (libc::SYS_getcwd, Always),
    (libc::SYS_clock_getres, Always),
    (libc::SYS_membarrier, Always),
    // All of them: files and devices, by descriptor.
    (libc::SYS_read, Always),
    (libc::SYS_readv, Always),
    (libc::SYS_write, Always),
    (libc::SYS_writev, Always),
    (libc::SYS_pread64, Always),
    (libc::SYS_pwrite64, Always),
    (libc::SYS_lseek, Always),
    (libc::SYS_close, Always),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFL as u64)),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFD as u64)),
    // Memory. A program that is started maps its code.
    (libc::SYS_brk, Always),
    (libc::SYS_mmap, Always),
    (libc::SYS_mprotect, Always),
    (libc::SYS_mremap, Always),
    (libc::SYS_munmap, Always),
    (libc::SYS_madvise, Always),
    // What the C library and the runtime need to begin, to lock, to look at the clock, to end.
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_arch_prctl, Always),
    (libc::SYS_set_tid_address, Always),
    (libc::SYS_set_robust_list, Always),
    (libc::SYS_rseq, Always),
    (libc::SYS_sched_getaffinity, Always),
    (libc::SYS_sched_yield, Always),
    (libc::SYS_getpid, Always),
    (libc::SYS_gettid, Always),
    (libc::SYS_getrandom, Always),
    (libc::SYS_clock_gettime, Always),
    (libc::SYS_clock_nanosleep, Always),
    (libc::SYS_futex, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
    // Hidden, and so not to be refused: the stricter of the two answers counts.
    (libc::SYS_clone3, Always),
];

/// Loads the filters, for this process and all that it starts from here on.
pub(super) fn allow_listed() -> Result<(), NotFiltered> {
    system_calls::hide(HIDDEN)?;
    system_calls::allow_only(ALLOWED, Otherwise::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        assert!(system_calls::is_consistent(ALLOWED));
    }

    #[test]
    fn what_is_hidden_is_not_refused() {
        let listed = |call: &&c_long| ALLOWED.contains(&(**call, Always));
        assert_eq!(HIDDEN.iter().filter(listed).count(), HIDDEN.len());
    }

    #[test]
    fn no_call_leads_to_another_process_the_network_or_a_mount_by_path() {
        for call in [
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_tgkill,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_reboot,
        ] {
            assert!(ALLOWED.iter().all(|(allowed, _)| *allowed != call), "{call}");
        }
    }
}
