//! seccomp: the system calls that a worker in a volume may make. Any other ends it (PROC-4).

use airlock_sys::system_calls::{self, Listed, NotFiltered, Otherwise, When};

use super::Confinement;
use When::{Always, Bits};

/// What may not be asked of memory: to be run.
const NEVER_EXECUTABLE: When = When::without(2, libc::PROT_EXEC as u64);

/// Each call with its reason. Landlock says on which files, this says what.
const ALLOWED: &[Listed] = &[
    // The blob is read, files and reports are written.
    (libc::SYS_read, Always),
    (libc::SYS_write, Always),
    (libc::SYS_pwrite64, Always),
    (libc::SYS_ftruncate, Always),
    (libc::SYS_close, Always),
    // How a descriptor was opened, asked before its directory is listed; and, by debug builds,
    // whether it is open at all.
    (libc::SYS_fcntl, When::is(1, libc::F_GETFL as u64)),
    (libc::SYS_fcntl, When::is(1, libc::F_GETFD as u64)),
    // Parents are resolved, entries are made and removed.
    (libc::SYS_openat2, Always),
    (libc::SYS_openat, Always),
    (libc::SYS_mkdirat, Always),
    (libc::SYS_symlinkat, Always),
    (libc::SYS_linkat, Always),
    (libc::SYS_unlinkat, Always),
    // Named pipes, and no device.
    (
        libc::SYS_mknodat,
        Bits { argument: 2, mask: libc::S_IFMT as u64, value: libc::S_IFIFO as u64 },
    ),
    // Owners, modes, times, attributes.
    (libc::SYS_fchown, Always),
    (libc::SYS_fchownat, Always),
    (libc::SYS_fchmod, Always),
    (libc::SYS_utimensat, Always),
    (libc::SYS_fsetxattr, Always),
    (libc::SYS_fgetxattr, Always),
    (libc::SYS_flistxattr, Always),
    (libc::SYS_fremovexattr, Always),
    // The whole tree is looked through, a link's attributes by its name where the process is.
    (libc::SYS_fchdir, Always),
    (libc::SYS_llistxattr, Always),
    (libc::SYS_lgetxattr, Always),
    (libc::SYS_readlinkat, Always),
    // What is there is looked at.
    (libc::SYS_fstat, Always),
    (libc::SYS_newfstatat, Always),
    (libc::SYS_statx, Always),
    (libc::SYS_getdents64, Always),
    // Where the kernel knows better than a position of ours: directory streams rewind.
    (libc::SYS_lseek, Always),
    // "Done" is said of what is on the device, which has something to do before that.
    (libc::SYS_syncfs, Always),
    (libc::SYS_fsync, Always),
    // Memory, never to be run.
    (libc::SYS_brk, Always),
    (libc::SYS_mmap, NEVER_EXECUTABLE),
    (libc::SYS_mprotect, NEVER_EXECUTABLE),
    (libc::SYS_mremap, Always),
    (libc::SYS_munmap, Always),
    (libc::SYS_madvise, Always),
    // Keys of hash tables, the clock where the vDSO has none.
    (libc::SYS_getrandom, Always),
    (libc::SYS_clock_gettime, Always),
    // Locks of the runtime, its stack guard, its way out.
    (libc::SYS_futex, Always),
    // A thread that waits for the other one lets it run.
    (libc::SYS_sched_yield, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
];

/// Those that change something: no verification makes one.
const CHANGES: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mknodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    libc::SYS_fremovexattr,
    libc::SYS_syncfs,
    libc::SYS_fsync,
];

/// Loads the filter, for all threads. It cannot be lifted again.
pub(super) fn allow_listed(confinement: Confinement) -> Result<(), NotFiltered> {
    system_calls::allow_only_everywhere(&allowed(confinement), Otherwise::Killed)
}

fn allowed(confinement: Confinement) -> Vec<Listed> {
    let changes = |call| CHANGES.contains(call);
    let reads = confinement == Confinement::Verification;
    ALLOWED.iter().filter(|(call, _)| !(reads && changes(call))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        assert!(system_calls::is_consistent(ALLOWED));
    }

    #[test]
    fn a_verification_makes_every_call_but_those_that_change_something() {
        let reads = allowed(Confinement::Verification);
        assert!(reads.iter().all(|(call, _)| !CHANGES.contains(call)));
        assert_eq!(reads.len() + CHANGES.len(), ALLOWED.len());
    }

    #[test]
    fn no_call_leads_out() {
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ioctl,
            libc::SYS_prctl,
            libc::SYS_open_by_handle_at,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ] {
            assert!(ALLOWED.iter().all(|(allowed, _)| *allowed != call), "{call}");
        }
    }
}
