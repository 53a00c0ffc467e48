//! What must not change while somebody attacks, looked at before and afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use airlock_policy::digest::Digest;
use airlock_tests::helper_client::User;

use crate::machine::sh;

const BLOBS: &str = "/var/lib/airlock/blobs/sha256";

/// The controller's user.
pub(crate) fn controller() -> User {
    let id = |what| sh(&format!("id -{what} airlock")).ok().out.trim().parse().unwrap();
    User { uid: id("u"), gid: id("g") }
}

/// Puts a blob where the controller keeps them, as it would, and returns its digest.
pub(crate) fn give_blob(bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    let path = blob_path(&digest.to_string());
    fs::write(&path, bytes).unwrap();
    let user = controller();
    chown(&path, Some(user.uid), Some(user.gid)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    digest.to_string()
}

/// Where a blob of this digest lies.
pub(crate) fn blob_path(digest: &str) -> String {
    format!("{BLOBS}/{}", digest.trim_start_matches("sha256:"))
}

/// The host: files, nodes, mounts, the device table; and of the pool what is others'.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Survey(BTreeMap<String, String>);

impl Survey {
    /// Looks at everything. `ours` are the names of devices and links that the attacker may make,
    /// by what they begin with.
    pub(crate) fn take(sealed: u32) -> Self {
        let mut seen = BTreeMap::new();
        for folder in ["/etc", "/usr/bin", "/usr/sbin", "/usr/libexec", "/root", "/home", "/srv"] {
            files(Path::new(folder), &mut seen);
        }
        nodes(Path::new("/dev"), &mut seen);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        seen.insert("mounts".to_owned(), mounts);
        let tables =
            sh("for d in somebodys-data airlock-pool airlock-v000002; do dmsetup table $d; done")
                .ok()
                .out;
        seen.insert("the device table".to_owned(), tables);
        let loops = sh("losetup -n -O NAME,BACK-FILE,OFFSET,SIZELIMIT | sort").ok().out;
        seen.insert("loop devices".to_owned(), loops);
        seen.insert("the sealed volume's blocks".to_owned(), blocks(sealed));
        Self(seen)
    }

    /// What differs, in words; empty where nothing does.
    pub(crate) fn differences(&self, before: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(before.0.keys());
        let mut found: Vec<String> = keys
            .filter(|key| self.0.get(*key) != before.0.get(*key))
            .map(|key| format!("{key}: {:?} was {:?}", self.0.get(key), before.0.get(key)))
            .collect();
        found.dedup();
        found
    }
}

fn files(folder: &Path, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.path().symlink_metadata()) else { continue };
        let line = format!(
            "{:o} {} {} {} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        seen.insert(path.display().to_string(), line);
        if meta.is_dir() {
            files(&path, seen);
        }
    }
}

/// Nodes and their owners; not those of airlock's own devices and links, which come and go.
fn nodes(folder: &Path, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.path().symlink_metadata()) else { continue };
        let name = path.display().to_string();
        let own = ["/dev/dm-", "/dev/mapper/airlock-", "/dev/airlock", "/dev/disk", "/dev/block"];
        if own.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with("/dev/vport") {
            continue;
        }
        let line = format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        seen.insert(name.clone(), line);
        if meta.is_dir() && !name.starts_with("/dev/pts") && !name.starts_with("/dev/shm") {
            nodes(&path, seen);
        }
    }
}

/// Which blocks of the pool a thin volume has, by a dump of its metadata. When a snapshot was last
/// taken of it stands there too, and may change.
pub(crate) fn blocks(thin: u32) -> String {
    sh("dmsetup message airlock-pool 0 reserve_metadata_snap").ok();
    let dump = sh(&format!(
        "thin_dump -m --dev-id {thin} /dev/block/$(dmsetup table airlock-pool | cut -d' ' -f4) | grep mapping"
    ));
    sh("dmsetup message airlock-pool 0 release_metadata_snap").ok();
    dump.ok().out
}
