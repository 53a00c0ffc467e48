//! What the kernel has built in, has loaded, or could load. Nothing is loaded to find out.

use super::{Finding, Host};

/// Where a part of the kernel is.
enum Place {
    /// Loaded, or built in, with its version where it tells one.
    Here(Option<String>),
    /// Built into the kernel.
    BuiltIn,
    /// A file that will be loaded when it is needed.
    Loadable,
    /// Nowhere.
    Nowhere,
}

/// The thin-pool target of devicemapper.
pub(super) fn thin_pool(host: &Host) -> Finding {
    let remedy =
        "install the kernel's full module package, or boot one with CONFIG_DM_THIN_PROVISIONING";
    finding("dm-thin-pool", &place(host, "dm-thin-pool"), remedy)
}

/// The loop device, for pools in files.
pub(super) fn loop_device(host: &Host) -> Finding {
    let remedy = "install the kernel's full module package, or boot one with CONFIG_BLK_DEV_LOOP";
    finding("loop", &place(host, "loop"), remedy)
}

/// The filesystem of the volumes.
pub(super) fn ext4(host: &Host) -> Finding {
    let filesystems = host.read("/proc/filesystems").unwrap_or_default();
    let known = filesystems.lines().any(|line| line.split_whitespace().last() == Some("ext4"));
    let place = if known { Place::Here(None) } else { place(host, "ext4") };
    let remedy = "install the kernel's full module package, or boot one with CONFIG_EXT4_FS";
    finding("ext4", &place, remedy)
}

fn finding(name: &'static str, place: &Place, remedy: &'static str) -> Finding {
    match place {
        Place::Here(Some(version)) => {
            Finding::ok(name, format!("version {version}, in the kernel"))
        }
        Place::Here(None) => Finding::ok(name, "in the kernel"),
        Place::BuiltIn => Finding::ok(name, "built into the kernel"),
        Place::Loadable => Finding::ok(name, "a module, not loaded yet"),
        Place::Nowhere => Finding::missing(name, "the kernel does not have it", remedy),
    }
}

fn place(host: &Host, module: &str) -> Place {
    // Loaded modules, and built-in ones that have a version or a parameter, have a folder here.
    let folder = format!("/sys/module/{}", module.replace('-', "_"));
    if host.exists(&folder) {
        return Place::Here(host.read(&format!("{folder}/version")));
    }
    let Some(release) = host.read("/proc/sys/kernel/osrelease").filter(|r| !r.contains('/')) else {
        return Place::Nowhere;
    };
    let lists = |list: &str| {
        let list = host.read(&format!("/lib/modules/{release}/{list}")).unwrap_or_default();
        list.lines().filter_map(|line| line.split(':').next()).any(|path| is_file_of(path, module))
    };
    if lists("modules.builtin") {
        Place::BuiltIn
    } else if lists("modules.dep") {
        Place::Loadable
    } else {
        Place::Nowhere
    }
}

/// Whether `kernel/drivers/md/dm-thin-pool.ko.xz` is the file of `dm-thin-pool`.
fn is_file_of(path: &str, module: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    // The kernel takes both for the same (modprobe(8)).
    stem.replace('_', "-") == module
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::host;
    use super::*;

    #[test]
    fn a_module_is_found_loaded_built_in_or_on_disk() {
        let (host, root) = host("module");
        assert_eq!(thin_pool(&host).text, "version 1.23.0, in the kernel");
        std::fs::remove_dir_all(root.join("sys/module/dm_thin_pool")).unwrap();
        assert_eq!(thin_pool(&host).verdict, Verdict::Missing);
        let modules = root.join("lib/modules/6.12.57+deb13-cloud-amd64");
        std::fs::create_dir_all(&modules).unwrap();
        let dependencies =
            "kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-bufio.ko.xz\n";
        std::fs::write(modules.join("modules.dep"), dependencies).unwrap();
        assert_eq!(thin_pool(&host).text, "a module, not loaded yet");
        std::fs::write(modules.join("modules.builtin"), "kernel/drivers/md/dm-thin-pool.ko\n")
            .unwrap();
        assert_eq!(thin_pool(&host).text, "built into the kernel");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_module_that_only_depends_on_it_is_not_it() {
        assert!(is_file_of("kernel/drivers/block/loop.ko.zst", "loop"));
        assert!(!is_file_of("kernel/drivers/block/loopback.ko", "loop"));
    }
}
