//! Who holds a device open, as far as `/proc` lets us see.

use std::fs;
use std::path::Path;

/// The most that are named.
const MOST: usize = 8;

/// Processes that have mounted or opened `/dev/dm-MINOR`, as "pid 12 (name) mounted it at /x".
pub(super) fn of(minor: u32) -> Vec<String> {
    let node = format!("/dev/dm-{minor}");
    let majors = fs::read_to_string("/proc/devices").unwrap_or_default();
    let major = majors.lines().find_map(|line| line.trim().strip_suffix(" device-mapper"));
    let number = major.map(|major| format!("{major}:{minor}"));
    let mut found = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    let mut mounts_seen = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let folder = process.path();
        if opens(&folder, &node) {
            found.push(format!("pid {pid} ({}) has it open", command(&folder)));
        }
        if let Some(place) = number.as_deref().and_then(|number| mounted(&folder, number)) {
            // Once for each namespace: all its processes tell the same.
            let namespace = fs::read_link(folder.join("ns/mnt")).ok();
            if !mounts_seen.contains(&(namespace.clone(), place.clone())) {
                let name = command(&folder);
                found.push(format!("mounted at {place}, as pid {pid} ({name}) sees it"));
                mounts_seen.push((namespace, place));
            }
        }
        if found.len() >= MOST {
            break;
        }
    }
    found
}

fn command(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn opens(process: &Path, node: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == node))
}

/// Where a process sees the device mounted (proc(5), /proc/pid/mountinfo: the third field is the
/// device, the fifth the mount point).
fn mounted(process: &Path, number: &str) -> Option<String> {
    let mounts = fs::read_to_string(process.join("mountinfo")).ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == number).then(|| fields.nth(1).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().next().unwrap();
        let fields: Vec<_> = line.split(' ').collect();
        assert_eq!(mounted(Path::new("/proc/self"), fields[2]).as_deref(), Some(fields[4]));
        assert_eq!(mounted(Path::new("/proc/self"), "9999:9999"), None);
    }

    #[test]
    fn an_open_file_is_found_by_its_name() {
        let _open = fs::File::open("/dev/null").unwrap();
        assert!(opens(Path::new("/proc/self"), "/dev/null"));
        assert!(!opens(Path::new("/proc/self"), "/dev/dm-99999"));
    }
}
