//! The floor: the files of a layer, written by as few calls as give them what the layer says.
//!
//! The list and all content are in memory before. One thread; names are looked up from the root,
//! a parent that repeats from its own descriptor. Attributes and lists of access are left out: no
//! layer of the bench has any. Nothing is checked.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use airlock_archive::{Content, Stop, Summary, Visitor, read_layer};
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::helper_config::HelperConfig;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, openat, symlinkat, utimensat,
};
use rustix::io::{Errno, Result};

/// A layer in memory.
pub(crate) struct Layer {
    entries: Vec<(Entry, Vec<u8>)>,
    pub(crate) summary: Summary,
}

struct Gather(Vec<(Entry, Vec<u8>)>);

impl Visitor for Gather {
    type Error = std::convert::Infallible;

    fn entry(
        &mut self,
        entry: &Entry,
        content: &mut Content<'_>,
    ) -> std::result::Result<(), Stop<Self::Error>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = content.next_chunk()? {
            bytes.extend_from_slice(chunk.bytes);
        }
        self.0.push((entry.clone(), bytes));
        Ok(())
    }
}

impl Layer {
    /// Reads an archive.
    pub(crate) fn read(archive: &Path) -> Self {
        let limits = HelperConfig::default().limits.archive();
        let mut gather = Gather(Vec::new());
        let summary = read_layer(File::open(archive).unwrap(), &limits, &mut gather).unwrap();
        let plain = |(entry, _): &(Entry, Vec<u8>)| {
            entry.xattrs.is_empty()
                && entry.acls.is_empty()
                && !matches!(entry.kind, Kind::File { sparse: Some(_), .. })
        };
        assert!(gather.0.iter().all(plain), "the floor cannot write {}", archive.display());
        Self { entries: gather.0, summary }
    }

    /// How many names it makes beside the root.
    pub(crate) fn names(&self) -> usize {
        self.entries.iter().filter(|(entry, _)| !entry.path.is_root()).count()
    }
}

/// Writes a layer into an empty folder.
pub(crate) fn write(layer: &Layer, root: &File) -> Result<()> {
    let mut last: (&[u8], OwnedFd) = (b"", folder(root, b".")?);
    for (entry, content) in &layer.entries {
        let path = entry.path.as_bytes();
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash..)),
            None => (&b""[..], Some(path)),
        };
        let name = name.unwrap_or_default();
        let name = name.strip_prefix(b"/").unwrap_or(name);
        if parent != last.0 {
            last = (parent, folder(root, if parent.is_empty() { b"." } else { parent })?);
        }
        one(root, &last.1, name, entry, content)?;
    }
    // What is made in a directory changes its time.
    let is_directory = |entry: &&(Entry, Vec<u8>)| entry.0.kind == Kind::Directory;
    for (entry, _) in layer.entries.iter().filter(is_directory) {
        let path = if entry.path.is_root() { b"." } else { entry.path.as_bytes() };
        utimensat(root, path, &times(entry), AtFlags::empty())?;
    }
    Ok(())
}

fn one(
    root: &File,
    parent: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    mut content: &[u8],
) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    let mode = Mode::from_raw_mode(entry.mode);
    match &entry.kind {
        Kind::Directory => {
            let place = if name.is_empty() { b"." } else { name };
            if !name.is_empty() {
                mkdirat(parent, place, Mode::RWXU)?;
            }
            chownat(parent, place, uid, gid, AtFlags::empty())?;
            rustix::fs::chmodat(parent, place, mode, AtFlags::empty())
        }
        Kind::File { .. } => {
            let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(parent, name, how, Mode::RUSR | Mode::WUSR)?;
            while !content.is_empty() {
                let count = rustix::io::write(&file, content)?;
                content = content.get(count..).unwrap_or_default();
            }
            fchown(&file, uid, gid)?;
            fchmod(&file, mode)?;
            futimens(&file, &times(entry))
        }
        Kind::Symlink { target } => {
            symlinkat(&target[..], parent, name)?;
            chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
        }
        Kind::Hardlink { target } => {
            linkat(root, target.as_bytes(), parent, name, AtFlags::empty())
        }
        // Not in any layer of the bench.
        Kind::Fifo | Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. } => Err(Errno::NOTSUP),
    }
}

fn folder(root: &File, path: &[u8]) -> Result<OwnedFd> {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(root, path, how, Mode::empty())
}

fn times(entry: &Entry) -> Timestamps {
    let time =
        Timespec { tv_sec: entry.mtime.seconds, tv_nsec: i64::from(entry.mtime.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}
