//! Which Landlock the running kernel has.

use landlock::{ABI, AccessFs, LandlockStatus, Ruleset, RulesetAttr as _};

use super::Finding;

/// The ABI that kernel 6.6 has: the sandboxes need no newer one.
const OLDEST: ABI = ABI::V3;

/// Asks the kernel. The crate tells only a process that restricts itself, so a thread of its own
/// does, and ends: Landlock holds the calling thread alone (`landlock_restrict_self(2)`).
pub(super) fn status() -> Option<LandlockStatus> {
    std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute).ok()?.create().ok()?;
        ruleset.restrict_self().ok().map(|status| status.landlock)
    })
    .join()
    .ok()
    .flatten()
}

/// What that means.
pub(super) fn landlock(status: Option<LandlockStatus>) -> Finding {
    let name = "landlock";
    match status {
        Some(LandlockStatus::Available { effective_abi, .. }) if effective_abi < OLDEST => {
            let text = format!("ABI {effective_abi}: older than {OLDEST}");
            Finding::missing(name, text, "boot a kernel 6.6 or newer")
        }
        Some(LandlockStatus::Available { effective_abi, kernel_abi }) => {
            let abi = kernel_abi.map_or_else(|| effective_abi.to_string(), |abi| abi.to_string());
            Finding::ok(name, format!("ABI {abi}"))
        }
        Some(LandlockStatus::NotEnabled) => {
            let remedy =
                "add landlock to the kernel's lsm= parameter (see /sys/kernel/security/lsm)";
            Finding::missing(name, "in the kernel, but switched off", remedy)
        }
        Some(LandlockStatus::NotImplemented) => {
            let remedy = "boot a kernel with CONFIG_SECURITY_LANDLOCK";
            Finding::missing(name, "not in the kernel", remedy)
        }
        None => Finding::warning(
            name,
            "the kernel would not say",
            "look for landlock in /sys/kernel/security/lsm",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn landlock_must_be_there_enabled_and_new_enough() {
        let of = |effective_abi| {
            landlock(Some(LandlockStatus::Available { effective_abi, kernel_abi: None }))
        };
        assert_eq!(of(ABI::V2).verdict, Verdict::Missing);
        assert_eq!((of(ABI::V3).verdict, of(ABI::V6).text), (Verdict::Ok, "ABI 6".to_owned()));
        assert_eq!(landlock(Some(LandlockStatus::NotEnabled)).verdict, Verdict::Missing);
        assert_eq!(landlock(Some(LandlockStatus::NotImplemented)).verdict, Verdict::Missing);
        assert_eq!(landlock(None).verdict, Verdict::Warning);
    }

    #[test]
    fn asking_restricts_nobody_else() {
        let status = status();
        assert!(status.is_some());
        assert!(std::fs::File::open("/proc/self/status").is_ok());
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(own.contains("NoNewPrivs:\t0"), "{own}");
    }
}
