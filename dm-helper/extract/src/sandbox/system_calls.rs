//! seccomp: the system calls that an extraction may make. Any other ends it (PROC-4).

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The filter could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFiltered {
    /// It could not be built, which depends on nothing outside this file.
    #[error("the filter cannot be built")]
    Build(#[from] BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the filter")]
    Load(#[from] seccompiler::Error),
}

/// When a call is allowed.
enum When {
    Always,
    /// Of the bits `mask` of the argument `argument`, exactly `value` are set.
    Bits {
        argument: u8,
        mask: u64,
        value: u64,
    },
}

use When::{Always, Bits};

/// All bits of an argument.
const WHOLE: u64 = u32::MAX as u64;

/// What may not be asked of memory: to be run.
const NEVER_EXECUTABLE: When = Bits { argument: 2, mask: libc::PROT_EXEC as u64, value: 0 };

/// Each call with its reason. Landlock says on which files, this says what.
const ALLOWED: &[(libc::c_long, When)] = &[
    // The blob is read, files and reports are written.
    (libc::SYS_read, Always),
    (libc::SYS_write, Always),
    (libc::SYS_pwrite64, Always),
    (libc::SYS_ftruncate, Always),
    (libc::SYS_close, Always),
    // How a descriptor was opened, asked before its directory is listed; and, by debug builds,
    // whether it is open at all.
    (libc::SYS_fcntl, Bits { argument: 1, mask: WHOLE, value: libc::F_GETFL as u64 }),
    (libc::SYS_fcntl, Bits { argument: 1, mask: WHOLE, value: libc::F_GETFD as u64 }),
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
    // What is there is looked at.
    (libc::SYS_fstat, Always),
    (libc::SYS_newfstatat, Always),
    (libc::SYS_statx, Always),
    (libc::SYS_getdents64, Always),
    // Where the kernel knows better than a position of ours: directory streams rewind.
    (libc::SYS_lseek, Always),
    // "Done" is said of what is on the device.
    (libc::SYS_syncfs, Always),
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
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
];

/// Loads the filter. It cannot be lifted again.
pub(super) fn allow_listed() -> Result<(), NotFiltered> {
    let filter: seccompiler::BpfProgram = SeccompFilter::new(
        rules()?,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?
    .try_into()?;
    Ok(seccompiler::apply_filter(&filter)?)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, Vec<SeccompRule>> = BTreeMap::new();
    for (call, when) in ALLOWED {
        // No rule at all means that the arguments do not matter.
        let of_call = rules.entry(*call).or_default();
        if let Bits { argument, mask, value } = when {
            let bits = SeccompCmpOp::MaskedEq(*mask);
            let condition =
                SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, bits, *value)?;
            of_call.push(SeccompRule::new(vec![condition])?);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        for (call, rules) in rules().unwrap() {
            let times = ALLOWED.iter().filter(|(allowed, _)| *allowed == call).count();
            assert_eq!(times, rules.len().max(1), "{call}");
        }
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
