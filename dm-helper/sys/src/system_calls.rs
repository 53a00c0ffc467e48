//! Which system calls a process may make (seccomp(2)): lists in, filters out.
//!
//! The lists are each process's own, with a reason for each call; here is what makes filters of
//! them. A filter holds the thread that loads it and all that it starts, for good.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// A filter is not in force.
#[derive(Debug, thiserror::Error)]
pub enum NotFiltered {
    /// It could not be built, which depends on nothing outside the program.
    #[error("the filter cannot be built")]
    Build(#[from] BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the filter")]
    Load(#[from] seccompiler::Error),
}

/// When a call is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// Whatever its arguments are.
    Always,
    /// Of the bits `mask` of the argument `argument`, counted from 0, exactly `value` are set. The
    /// lower 32 bits of the argument are looked at.
    Bits {
        /// Which argument.
        argument: u8,
        /// Which of its bits.
        mask: u64,
        /// What these are.
        value: u64,
    },
}

/// A call by its number, and when it is allowed. A call may stand there more than once.
pub type Listed = (c_long, When);

/// All bits of an argument.
const WHOLE: u64 = u32::MAX as u64;

impl When {
    /// The argument is this number.
    pub const fn is(argument: u8, value: u64) -> Self {
        Self::Bits { argument, mask: WHOLE, value }
    }

    /// The argument has no bits but these.
    pub const fn within(argument: u8, bits: u64) -> Self {
        Self::Bits { argument, mask: WHOLE & !bits, value: 0 }
    }

    /// The argument has none of these bits.
    pub const fn without(argument: u8, bits: u64) -> Self {
        Self::Bits { argument, mask: bits, value: 0 }
    }
}

/// What becomes of a call that is not on the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// It ends the process, by SIGSYS, which the kernel logs.
    Killed,
    /// It fails with `EPERM`.
    Refused,
}

impl Otherwise {
    const fn action(self) -> SeccompAction {
        match self {
            Self::Killed => SeccompAction::KillProcess,
            Self::Refused => SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        }
    }
}

/// Leaves all threads of the process, those that run already too, the listed calls. Sets
/// `no_new_privs`. All must have the same filters so far.
pub fn allow_only_everywhere(listed: &[Listed], otherwise: Otherwise) -> Result<(), NotFiltered> {
    let filter = filter(listed, otherwise.action(), SeccompAction::Allow)?;
    Ok(seccompiler::apply_filter_all_threads(&filter)?)
}

/// Leaves the calling thread and what it starts the listed calls. Sets `no_new_privs`.
pub fn allow_only(listed: &[Listed], otherwise: Otherwise) -> Result<(), NotFiltered> {
    load(listed, otherwise.action(), SeccompAction::Allow)
}

/// Makes these calls fail as on a kernel that does not have them (`ENOSYS`), so that the C library
/// does without. Of several filters the strictest answer counts: a list that comes after this one
/// must allow these calls, or it decides.
pub fn hide(calls: &[c_long]) -> Result<(), NotFiltered> {
    let listed: Vec<Listed> = calls.iter().map(|call| (*call, When::Always)).collect();
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    load(&listed, SeccompAction::Allow, absent)
}

fn load(
    listed: &[Listed],
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<(), NotFiltered> {
    Ok(seccompiler::apply_filter(&filter(listed, otherwise, action)?)?)
}

fn filter(
    listed: &[Listed],
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules(listed)?, otherwise, action, architecture)?.try_into()
}

fn rules(listed: &[Listed]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, Vec<SeccompRule>> = BTreeMap::new();
    for (call, when) in listed {
        // No rule at all means that the arguments do not matter.
        let of_call = rules.entry(*call).or_default();
        if let When::Bits { argument, mask, value } = when {
            let bits = SeccompCmpOp::MaskedEq(*mask);
            let condition =
                SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, bits, *value)?;
            of_call.push(SeccompRule::new(vec![condition])?);
        }
    }
    Ok(rules)
}

/// Whether no call stands in a list both with a condition and without: a filter would take the
/// condition for all of it. For the lists' own tests.
pub fn is_consistent(listed: &[Listed]) -> bool {
    let times = |number| listed.iter().filter(|(call, _)| *call == number).count();
    rules(listed)
        .is_ok_and(|rules| rules.iter().all(|(call, of_call)| times(*call) == of_call.len().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_conditions_is_not_also_allowed_without() {
        assert!(is_consistent(&[(1, When::is(0, 5)), (1, When::is(0, 6)), (2, When::Always)]));
        assert!(!is_consistent(&[(1, When::is(0, 5)), (1, When::Always)]));
    }

    #[test]
    fn a_call_is_hidden_refused_or_made_as_listed() {
        // A thread of its own: what is loaded stays.
        let seen = std::thread::spawn(|| {
            hide(&[libc::SYS_clone3]).unwrap();
            let listed = [
                (libc::SYS_clone3, When::Always),
                (libc::SYS_umask, When::is(0, 0o022)),
                (libc::SYS_seccomp, When::Always),
                (libc::SYS_prctl, When::Always),
                (libc::SYS_munmap, When::Always),
                (libc::SYS_futex, When::Always),
                (libc::SYS_sigaltstack, When::Always),
                (libc::SYS_rt_sigprocmask, When::Always),
                (libc::SYS_madvise, When::Always),
                (libc::SYS_mmap, When::without(2, 4)),
                (libc::SYS_mprotect, When::Always),
                (libc::SYS_exit, When::Always),
            ];
            allow_only(&listed, Otherwise::Refused).unwrap();
            let errno = |call, argument: c_long| {
                // SAFETY: none of these calls takes a pointer that is read when it is 0, and each
                // fails or changes this thread alone.
                let result = unsafe { libc::syscall(call, argument, 0, 0) };
                (result < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
            };
            [
                errno(libc::SYS_clone3, 0),
                errno(libc::SYS_getppid, 0),
                errno(libc::SYS_umask, 0o022),
                errno(libc::SYS_umask, 0o077),
            ]
        });
        let expected = [Some(libc::ENOSYS), Some(libc::EPERM), None, Some(libc::EPERM)];
        assert_eq!(seen.join().unwrap(), expected);
    }
}
