//! Programs, udev, room and time: what the host brings besides its kernel.

use std::os::unix::fs::PermissionsExt as _;

use airlock_policy::size::ByteSize;

use super::{Finding, Host};

/// Where the helper's workers look for programs, whatever the `PATH` of who asks.
const SYSTEM: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
/// Free disk below which there is no room for a few images.
const LITTLE_DISK: ByteSize = ByteSize::gib(10);
/// Available memory below which extraction and the daemon crowd each other.
const LITTLE_MEMORY: ByteSize = ByteSize::mib(512);

/// What checks a pool's metadata.
pub(super) fn thin_tools(host: &Host) -> Finding {
    let remedy =
        "install thin-provisioning-tools (device-mapper-persistent-data on Fedora and RHEL)";
    program(host, "thin tools", "thin_check", remedy)
}

/// What formats the base volume.
pub(super) fn e2fsprogs(host: &Host) -> Finding {
    program(host, "e2fsprogs", "mkfs.ext4", "install e2fsprogs")
}

fn program(host: &Host, name: &'static str, program: &str, remedy: &'static str) -> Finding {
    let system = SYSTEM.iter().map(|folder| host.path(folder));
    let found = host.search_path.iter().cloned().chain(system).find_map(|folder| {
        let path = folder.join(program);
        let kind = path.metadata().ok()?;
        (kind.is_file() && kind.permissions().mode() & 0o111 != 0).then_some(path)
    });
    match found {
        Some(path) => Finding::ok(name, path.display().to_string()),
        None => Finding::missing(name, format!("there is no {program}"), remedy),
    }
}

/// Whether udev runs: airlock works with it and without.
pub(super) fn udev(host: &Host) -> Finding {
    let runs = host.exists("/run/udev/control");
    let text = if runs { "runs" } else { "does not run; airlock makes its own links" };
    Finding::ok("udev", text)
}

/// Free disk where blobs and pool files will lie.
pub(super) fn disk(host: &Host) -> Finding {
    let name = "disk";
    let places = ["/var/lib/airlock", "/var/lib"];
    let Some(place) = places.into_iter().find(|place| host.exists(place)) else {
        return Finding::warning(name, "there is no /var/lib", "df -h");
    };
    let Ok(room) = rustix::fs::statvfs(host.path(place)) else {
        return Finding::warning(name, format!("the room in {place} cannot be read"), "df -h");
    };
    let free = ByteSize(room.f_bavail.saturating_mul(room.f_frsize));
    let text = format!("{free} free in {place}");
    if free >= LITTLE_DISK {
        Finding::ok(name, text)
    } else {
        Finding::warning(
            name,
            format!("{text}, which is little"),
            "make room, or use a larger disk",
        )
    }
}

/// Available memory.
pub(super) fn memory(host: &Host) -> Finding {
    let name = "memory";
    let table = host.read("/proc/meminfo").unwrap_or_default();
    let available = table.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?;
        Some(ByteSize(kib.trim().parse::<u64>().ok()?.saturating_mul(1024)))
    });
    match available {
        None => Finding::warning(name, "it cannot be read", "free -h"),
        Some(free) if free >= LITTLE_MEMORY => Finding::ok(name, format!("{free} available")),
        Some(free) => {
            let text = format!("{free} available, which is little");
            Finding::warning(name, text, "stop something, or use a larger machine")
        }
    }
}

/// Files that are there while something keeps the clock right, and what they mean.
const CLOCKS: [(&str, &str); 5] = [
    ("/run/systemd/timesync/synchronized", "synchronised"),
    ("/run/chrony/chronyd.pid", "kept by chronyd"),
    ("/run/chronyd.pid", "kept by chronyd"),
    ("/run/ntpd.pid", "kept by ntpd"),
    ("/run/openntpd.pid", "kept by openntpd"),
];

/// Whether something keeps the clock right: S3 refuses requests that are 15 minutes off.
pub(super) fn clock(host: &Host) -> Finding {
    let name = "clock";
    if let Some((_, text)) = CLOCKS.iter().find(|(file, _)| host.exists(file)) {
        return Finding::ok(name, *text);
    }
    let text = "nothing is known to synchronise it; S3 refuses requests that are 15 min off";
    Finding::warning(name, text, "timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::host;
    use super::*;

    #[test]
    fn a_program_must_be_executable() {
        let (host, root) = host("program");
        assert_eq!(thin_tools(&host).verdict, Verdict::Ok);
        let path = root.join("usr/sbin/thin_check");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(thin_tools(&host).verdict, Verdict::Missing);
        std::fs::write(root.join("proc/meminfo"), "MemAvailable:  1024 kB\n").unwrap();
        assert_eq!(memory(&host).text, "1.0 MiB available, which is little");
        std::fs::remove_dir_all(root).unwrap();
    }
}
