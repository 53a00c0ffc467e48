//! What the running kernel is, and what it lets processes do.

use super::{Finding, Host};

/// The oldest kernel that airlock is made for.
const OLDEST: (u32, u32) = (6, 6);
/// The first kernel whose ext4 can be mounted with mapped ids.
const IDMAPPED_EXT4: (u32, u32) = (5, 12);

/// The kernel's release.
pub(super) fn release(host: &Host) -> Finding {
    let name = "kernel";
    match version(host) {
        None => Finding::warning(name, "its release cannot be read", "uname -r"),
        Some((text, version)) if version >= OLDEST => Finding::ok(name, text),
        Some((text, _)) => {
            let text = format!("{text}: older than {}.{}", OLDEST.0, OLDEST.1);
            Finding::missing(name, text, "boot a kernel 6.6 or newer")
        }
    }
}

/// Whether processes can give up system calls.
pub(super) fn seccomp(host: &Host) -> Finding {
    let name = "seccomp";
    let actions = host.read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |action| actions.split_whitespace().any(|found| found == action);
    if has("kill_process") && has("errno") {
        Finding::ok(name, "filters can be loaded")
    } else {
        let remedy = "boot a kernel with CONFIG_SECCOMP_FILTER";
        Finding::missing(name, "no filters: the worker cannot be confined", remedy)
    }
}

/// Whether the worker can have its own user namespace.
pub(super) fn user_namespaces(host: &Host) -> Finding {
    let name = "user namespaces";
    if !host.exists("/proc/self/ns/user") {
        let remedy = "boot a kernel with CONFIG_USER_NS";
        return Finding::missing(name, "the kernel has none", remedy);
    }
    match host.read("/proc/sys/user/max_user_namespaces").and_then(|max| max.parse::<u64>().ok()) {
        Some(0) => {
            let remedy = "sysctl user.max_user_namespaces=1024";
            Finding::missing(name, "none may be made: the limit is 0", remedy)
        }
        Some(max) => Finding::ok(name, format!("up to {max}")),
        None => {
            Finding::warning(name, "their limit cannot be read", "sysctl user.max_user_namespaces")
        }
    }
}

/// Whether ext4 can be mounted with mapped ids: told by the kernel's age.
pub(super) fn idmapped_mounts(host: &Host) -> Finding {
    let name = "id-mapped mounts";
    match version(host) {
        None => Finding::warning(name, "the kernel's release cannot be read", "uname -r"),
        Some((_, version)) if version >= IDMAPPED_EXT4 => Finding::ok(name, "of ext4, since 5.12"),
        Some(_) => {
            Finding::missing(name, "not of ext4 in this kernel", "boot a kernel 6.6 or newer")
        }
    }
}

/// The release, and its first two numbers.
fn version(host: &Host) -> Option<(String, (u32, u32))> {
    let release = host.read("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((release, (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::host;
    use super::*;

    #[test]
    fn a_kernel_is_judged_by_its_release() {
        let (host, root) = host("kernel");
        for (release, verdict) in [
            ("6.6.0", Verdict::Ok),
            ("6.18.44-fc-v657", Verdict::Ok),
            ("10.1", Verdict::Ok),
            ("6.5.13-generic", Verdict::Missing),
            ("5.15.0", Verdict::Missing),
            ("nonsense", Verdict::Warning),
        ] {
            std::fs::write(root.join("proc/sys/kernel/osrelease"), release).unwrap();
            assert_eq!(super::release(&host).verdict, verdict, "{release}");
        }
        std::fs::write(root.join("proc/sys/user/max_user_namespaces"), "0\n").unwrap();
        assert_eq!(user_namespaces(&host).verdict, Verdict::Missing);
        std::fs::remove_dir_all(root).unwrap();
    }
}
