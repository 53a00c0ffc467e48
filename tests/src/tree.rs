//! A tree as text: all that an image says of its files, a line each, sorted. Trees are equal if
//! their texts are.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use airlock_policy::digest::Digest;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The text of the tree below `root`, which is its first line. Fields are separated by spaces:
/// path, type, mode, `uid:gid`, time; then, where there are any: size and digest of a file, its
/// data regions if it has holes, a link's target, the first name of the same inode, attributes.
pub fn list(root: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    gather(root, &mut paths)?;
    // By bytes and not by component: the same order wherever the tree lies.
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut names = HashMap::new();
    let mut text = String::new();
    for path in paths {
        let below = path.strip_prefix(root).unwrap_or(&path);
        let name = format!("./{}", escaped(below.as_os_str().as_bytes()));
        line(&mut text, &path, &name, &mut names)
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    }
    Ok(text)
}

/// The tree as GNU tar makes it of the archive, on an ext4 of this machine.
///
/// # Panics
///
/// When it cannot.
pub fn made_by_gnu_tar(archive: &Path) -> String {
    crate::loopback::with_ext4(1 << 30, |root| {
        let status = Command::new("tar")
            .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf"])
            .arg(archive)
            .arg("-C")
            .arg(root)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "tar -xpf {}", archive.display());
        list(root).unwrap_or_else(|error| panic!("{}: {error}", archive.display()))
    })
}

/// The lines that differ, at most ten, marked `-` for `expected` and `+` for `listed`.
pub fn differences(expected: &str, listed: &str) -> Vec<String> {
    let (old, new): (HashSet<_>, HashSet<_>) =
        (expected.lines().collect(), listed.lines().collect());
    let missing = expected.lines().filter(|line| !new.contains(line));
    let added = listed.lines().filter(|line| !old.contains(line));
    let missing = missing.map(|line| format!("-{line}"));
    missing.chain(added.map(|line| format!("+{line}"))).take(10).collect()
}

fn gather(path: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    paths.push(path.to_owned());
    if fs::symlink_metadata(path)?.is_dir() {
        // All names first: a deep tree must not need a descriptor for each level.
        let entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
        for entry in entries {
            gather(&entry.path(), paths)?;
        }
    }
    Ok(())
}

fn line(
    text: &mut String,
    path: &Path,
    name: &str,
    names: &mut HashMap<u64, String>,
) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let (uid, gid) = (meta.uid(), meta.gid());
    let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
    let mut fields = format!(
        "{name} {} {:04o} {uid}:{gid} {seconds}.{nanoseconds:09}",
        kind(&meta),
        meta.mode() & 0o7777
    );
    if meta.is_file() {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        let regions = regions(&file, meta.len())?;
        // Holes are not read: a file may be all hole and larger than memory.
        for (start, end) in &regions {
            rustix::fs::seek(&file, SeekFrom::Start(*start))?;
            (&mut file).take(end.saturating_sub(*start)).read_to_end(&mut bytes)?;
        }
        add(&mut fields, format_args!(" size={} {}", meta.len(), Digest::of(&bytes)));
        if regions != [(0, meta.len())] && meta.len() > 0 {
            add(&mut fields, format_args!(" data={regions:?}"));
        }
    }
    if meta.is_symlink() {
        let target = fs::read_link(path)?;
        add(&mut fields, format_args!(" target={}", escaped(target.as_os_str().as_bytes())));
    }
    if !meta.is_dir() && meta.nlink() > 1 {
        let first = names.entry(meta.ino()).or_insert_with(|| name.to_owned());
        add(&mut fields, format_args!(" links={} same={first}", meta.nlink()));
    }
    for (attribute, value) in attributes(path)? {
        add(&mut fields, format_args!(" {}={}", escaped(attribute.as_bytes()), escaped(&value)));
    }
    add(text, format_args!("{fields}\n"));
    Ok(())
}

fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).unwrap_or_default();
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () => "other",
    }
}

/// Where a file has data, as starts and ends.
pub fn regions(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut regions = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        position = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        regions.push((start, position));
    }
    Ok(regions)
}

fn attributes(path: &Path) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    names.truncate(length);
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // What a security module gives every file is the host's.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        found.push((CString::new(name)?, value));
    }
    found.sort();
    Ok(found)
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' | b' ' | 0..b' ' | 0x7f.. => add(&mut text, format_args!("\\x{byte:02x}")),
            printable => text.push(char::from(*printable)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A tree that was changed in one place only.
    fn tree(change: impl FnOnce(&Path)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "text").unwrap();
        fs::hard_link(root.join("d/f"), root.join("d/g")).unwrap();
        symlink("d/f", root.join("l")).unwrap();
        change(root);
        let fixed = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in ["d/f", "d", "."] {
            if let Ok(file) = File::open(root.join(name)) {
                file.set_times(fixed).unwrap();
            }
        }
        let listed = list(root).unwrap();
        // A link's own time cannot be set from here.
        listed
            .lines()
            .map(|l| if l.contains(" link ") { "l" } else { l })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_kind_of_change_is_seen() {
        let same = tree(|_| {});
        assert_eq!(tree(|_| {}), same);
        assert!(same.contains("same=./d/f"), "{same}");
        let changes: [fn(&Path); 6] = [
            |root| fs::write(root.join("d/f"), "tex2").unwrap(),
            |root| fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o711)).unwrap(),
            |root| std::os::unix::fs::chown(root.join("d/f"), Some(1), None).unwrap(),
            |root| fs::remove_file(root.join("d/g")).unwrap(),
            |root| {
                File::options()
                    .append(true)
                    .open(root.join("d/f"))
                    .unwrap()
                    .set_len(1 << 20)
                    .unwrap();
            },
            |root| {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(root.join("d/f"), "user.a", b"1", flags).unwrap();
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(tree(change), same, "change {number}");
        }
    }
}
