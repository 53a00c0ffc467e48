//! Whether this host can run airlock: needs no daemon, helper, pool, database or
//! configuration, changes nothing and loads no module.

mod host;
mod kernel;
mod landlock;
mod module;

use std::path::{Path, PathBuf};

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// What: `kernel`.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) verdict: Verdict,
    /// In words and numbers.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) remedy: Option<&'static str>,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// As it must be.
    Ok,
    /// Airlock runs, but less well, or it could not be found out.
    Warning,
    /// Airlock does not run without it.
    Missing,
}

/// Where things are looked for: the host's own tree, or one that a test made.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    root: PathBuf,
    search_path: Vec<PathBuf>,
}

impl Finding {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, text: text.into(), remedy: None }
    }

    fn warning(name: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, verdict: Verdict::Warning, text: text.into(), remedy: Some(remedy) }
    }

    fn missing(name: &'static str, text: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, verdict: Verdict::Missing, text: text.into(), remedy: Some(remedy) }
    }
}

impl Host {
    /// A path of the host.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A small file of the host, trimmed; `None` if it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

/// Looks at this host.
pub(crate) fn look() -> Vec<Finding> {
    let search_path = crate::cli::search_path();
    let host = Host { root: Path::new("/").to_owned(), search_path };
    let mut findings = look_at(&host);
    findings.insert(LANDLOCK_PLACE.min(findings.len()), landlock::landlock(landlock::status()));
    findings
}

/// Landlock is asked of the running kernel, which no other tree can stand for.
const LANDLOCK_PLACE: usize = 4;

fn look_at(host: &Host) -> Vec<Finding> {
    vec![
        kernel::release(host),
        module::thin_pool(host),
        module::loop_device(host),
        module::ext4(host),
        kernel::seccomp(host),
        kernel::user_namespaces(host),
        kernel::idmapped_mounts(host),
        host::thin_tools(host),
        host::e2fsprogs(host),
        host::udev(host),
        host::disk(host),
        host::memory(host),
        host::clock(host),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has everything.
    pub(super) fn host(name: &str) -> (Host, PathBuf) {
        let root =
            std::env::temp_dir().join(format!("airlock-preflight-{name}-{}", std::process::id()));
        if root.exists() {
            std::fs::remove_dir_all(&root).unwrap();
        }
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.12.57+deb13-cloud-amd64\n"),
            (
                "proc/sys/kernel/seccomp/actions_avail",
                "kill_process kill_thread trap errno log allow\n",
            ),
            ("proc/sys/user/max_user_namespaces", "96365\n"),
            ("proc/self/ns/user", ""),
            ("proc/filesystems", "nodev\tsysfs\n\text4\n"),
            ("proc/meminfo", "MemTotal:  8000000 kB\nMemAvailable:  4000000 kB\n"),
            ("sys/module/dm_thin_pool/version", "1.23.0\n"),
            ("sys/module/loop/refcnt", "0\n"),
            ("run/udev/control", ""),
            ("run/systemd/timesync/synchronized", ""),
            ("var/lib/x", ""),
            ("usr/sbin/thin_check", "#!"),
            ("usr/sbin/mkfs.ext4", "#!"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            if text == "#!" {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        (Host { root: root.clone(), search_path: vec![] }, root)
    }

    #[test]
    fn a_host_that_has_everything_passes() {
        let (host, root) = host("whole");
        for finding in look_at(&host) {
            let bare = finding.name == "disk";
            assert!(bare || finding.verdict == Verdict::Ok, "{finding:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn everything_that_an_empty_host_lacks_is_named_with_its_remedy() {
        let root =
            std::env::temp_dir().join(format!("airlock-preflight-none-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let findings = look_at(&Host { root: root.clone(), search_path: vec![] });
        let missing: Vec<_> = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Missing)
            .map(|finding| finding.name)
            .collect();
        assert_eq!(
            missing,
            [
                "dm-thin-pool",
                "loop",
                "ext4",
                "seccomp",
                "user namespaces",
                "thin tools",
                "e2fsprogs"
            ]
        );
        for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Ok) {
            assert!(finding.remedy.is_some(), "{finding:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_host_is_looked_at_in_under_two_seconds() {
        let begun = std::time::Instant::now();
        let names: Vec<_> = look().iter().map(|finding| finding.name).collect();
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
        assert_eq!(names.len(), 14);
        assert_eq!(names.get(4), Some(&"landlock"));
    }
}
