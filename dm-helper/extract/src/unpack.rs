//! Writes the entries of a layer, one after the other, as the archive has them; what a hard
//! link names is looked up inside the volume (TREE-3).

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airlock_archive::{Content, Stop, Visitor};
use airlock_policy::entry::path::EntryPath;
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::errand::Progress;
use airlock_policy::rule::Rule;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::content::{ContentHash, Contents};
use crate::metadata::{self, Before};
use crate::people::People;
use crate::remove::{Whose, empty};
use crate::report::Reports;
use crate::threads::Flusher;
use crate::volume::{
    DIRECTORY, Directory, Place, Step, Volume, WriteFault, leads_nowhere, look, stop, timespec,
};

/// Writes what it is shown into a volume.
#[derive(Debug)]
pub(crate) struct Unpack {
    volume: Volume,
    flusher: Flusher,
    reports: Reports,
    contents: Contents,
    blob_bytes: Arc<AtomicU64>,
    /// Whether the archive is unwrapped: what lies in its one directory is the root.
    unwrap: bool,
    /// Content and headers so far: a little less than was really read.
    tar_bytes: u64,
}

/// How much is written before it is sent on its way to the device, in bytes.
const AT_ONCE: u64 = 16 << 20;

/// A header's block in a tar archive.
const BLOCK: u64 = 512;

/// How a new file is opened: it must not be there, and no link is followed.
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How a named pipe is opened, without waiting for anybody at its other end.
const PIPE: OFlags =
    OFlags::RDWR.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The mode of what is not finished.
const UNFINISHED: Mode = Mode::RUSR.union(Mode::WUSR);

impl Unpack {
    pub(crate) fn new(
        (volume, flusher): (Volume, Flusher),
        reports: Reports,
        contents: Contents,
        (blob_bytes, unwrap): (Arc<AtomicU64>, bool),
    ) -> Self {
        Self { volume, flusher, reports, contents, blob_bytes, unwrap, tar_bytes: 0 }
    }

    pub(crate) fn into_parts(self) -> (Volume, Reports, (Contents, Flusher)) {
        let Self { volume, flusher, reports, contents, .. } = self;
        (volume, reports, (contents, flusher))
    }

    fn write(&mut self, entry: &Entry, content: &mut Content<'_>) -> Step<()> {
        match &entry.kind {
            Kind::File { size, sparse: _ } => self.file(entry, *size, content),
            Kind::Directory => self.directory(entry),
            Kind::Symlink { target } => self.symlink(entry, target),
            Kind::Hardlink { target } => self.hardlink(entry, target),
            Kind::Fifo => self.fifo(entry),
            Kind::Whiteout { target } => self.whiteout(target),
            Kind::OpaqueDirectory { target } => self.opaque(target),
        }
    }

    fn progress(&mut self, entry: &Entry, bytes: u64) -> Step<()> {
        let before = self.tar_bytes;
        self.tar_bytes = before.saturating_add(bytes);
        if before / AT_ONCE != self.tar_bytes / AT_ONCE {
            self.flusher.flush();
        }
        let (blob, tar_bytes) = (&self.blob_bytes, self.tar_bytes);
        let progress = || Progress {
            blob_bytes: blob.load(Ordering::Relaxed),
            tar_bytes,
            entries: entry.index,
        };
        self.reports.progress(progress).map_err(|source| {
            Stop::Failed(WriteFault { what: "report progress to the launcher", source })
        })
    }

    fn file(&mut self, entry: &Entry, size: u64, content: &mut Content<'_>) -> Step<()> {
        let place = self.volume.place(&entry.path, entry.mtime)?;
        let before = before_of(&place.parent, entry);
        let mode =
            if before == Before::Mode { Mode::from_raw_mode(entry.mode) } else { UNFINISHED };
        let file = self.volume.make(&place, "make a file", |parent, name| {
            rustix::fs::openat(parent, name, NEW_FILE, mode)
        })?;
        let mut end = 0;
        let mut hash = ContentHash::new();
        while let Some(chunk) = content.next_chunk()? {
            end = write_all(&file, chunk.bytes, chunk.offset)?;
            hash.add(chunk.offset, chunk.bytes);
            let count = chunk.bytes.len() as u64;
            self.progress(entry, count)?;
        }
        if end < size {
            // A hole up to the end.
            rustix::fs::ftruncate(&file, size).map_err(stop("set a file's size"))?;
        }
        if size > 0 {
            let stat = rustix::fs::fstat(&file).map_err(stop("look at a file"))?;
            self.contents.note(stat.st_ino, hash.finish());
        }
        self.finish_new(&file, entry, before)
    }

    fn fifo(&mut self, entry: &Entry) -> Step<()> {
        let place = self.volume.place(&entry.path, entry.mtime)?;
        self.volume.make(&place, "make a named pipe", |parent, name| {
            rustix::fs::mknodat(parent, name, FileType::Fifo, UNFINISHED, 0)
        })?;
        let pipe = rustix::fs::openat(&place.parent.fd, place.name, PIPE, Mode::empty())
            .map_err(stop("open a named pipe"))?;
        self.finish_new(&pipe, entry, before_of_any(&place.parent))
    }

    fn finish_new(&self, made: &OwnedFd, entry: &Entry, before: Before) -> Step<()> {
        metadata::apply(made.as_fd(), entry, before, self.people())?;
        metadata::set_time(made.as_fd(), entry.mtime)
    }

    fn people(&self) -> People<'_> {
        People::of(self.volume.root.fd.as_fd())
    }

    fn directory(&mut self, entry: &Entry) -> Step<()> {
        let (directory, before) = if entry.path.is_root() {
            (Rc::clone(&self.volume.root), Before::Anything)
        } else {
            let place = self.volume.place(&entry.path, entry.mtime)?;
            self.open_or_make(&place)?
        };
        metadata::apply(directory.fd.as_fd(), entry, before, self.people())?;
        if entry.path.is_root() {
            self.volume.look_at_root_again()?;
        }
        // Its time comes last of all: what is made in it would change it.
        self.volume.ledger.set_time(directory.inode, timespec(entry.mtime));
        if !entry.acls.is_empty() || before == Before::Anything {
            self.volume.forget_last();
        } else if before == Before::Nothing && entry.mode & Mode::SGID.as_raw_mode() == 0 {
            // It hands down no more than it seemed to when it was opened.
            self.volume.remember(&entry.path, directory);
        }
        Ok(())
    }

    /// A directory that is there stays, with what is in it; anything else makes way, a link to a
    /// directory too.
    fn open_or_make(&mut self, place: &Place<'_>) -> Step<(Rc<Directory>, Before)> {
        let open = || rustix::fs::openat(&place.parent.fd, place.name, DIRECTORY, Mode::empty());
        let mut before = Before::Anything;
        let fd = match open() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                before = before_of_any(&place.parent);
                self.volume.make(place, "make a directory", |parent, name| {
                    rustix::fs::mkdirat(parent, name, Mode::RWXU)
                })?;
                open()
            }
            other => other,
        };
        let fd = fd.map_err(stop("open a directory"))?;
        self.volume.ledger.note_written(place.parent.inode, place.name);
        let directory =
            Directory::new(fd, &mut self.volume.ledger).map_err(stop("open a directory"))?;
        Ok((Rc::new(directory), before))
    }

    fn symlink(&mut self, entry: &Entry, target: &[u8]) -> Step<()> {
        let place = self.volume.place(&entry.path, entry.mtime)?;
        self.volume.make(&place, "make a symbolic link", |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })?;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let (parent, no_follow) = (&place.parent.fd, AtFlags::SYMLINK_NOFOLLOW);
        rustix::fs::chownat(parent, place.name, Some(uid), Some(gid), no_follow)
            .map_err(stop("set a link's owner"))?;
        rustix::fs::utimensat(parent, place.name, &metadata::times(entry.mtime), no_follow)
            .map_err(stop("set a link's time"))
    }

    /// Links what is there, a symbolic link itself if it is one. The entry's own owner, mode and
    /// time are its target's: an inode has one of each.
    fn hardlink(&mut self, entry: &Entry, target: &EntryPath) -> Step<()> {
        let missing = || Stop::Refuse(Rule::LinkMissing);
        let from = self.volume.existing_place(target)?.ok_or_else(missing)?;
        let (kind, linked) = look(&from)?.ok_or_else(missing)?;
        if kind == FileType::Directory {
            return Err(missing());
        }
        let place = self.volume.place(&entry.path, entry.mtime)?;
        if look(&place)?.is_some_and(|(_, there)| there.st_ino == linked.st_ino) {
            self.volume.ledger.note_written(place.parent.inode, place.name);
            return Ok(());
        }
        // What is in the way goes first; if the target was in it, it is gone now.
        let made =
            self.volume.make(
                &place,
                "make a hard link",
                |parent, name| match rustix::fs::linkat(
                    &from.parent.fd,
                    from.name,
                    parent,
                    name,
                    AtFlags::empty(),
                ) {
                    Err(Errno::NOENT) => Ok(false),
                    other => other.map(|()| true),
                },
            )?;
        if made { Ok(()) } else { Err(missing()) }
    }

    fn whiteout(&mut self, target: &EntryPath) -> Step<()> {
        match self.volume.existing_place(target)? {
            Some(place) => self.volume.remove(&place, Whose::LowerLayers),
            None => Ok(()),
        }
    }

    fn opaque(&mut self, target: &EntryPath) -> Step<()> {
        self.volume.forget_last();
        match self.volume.resolve(target.as_bytes()) {
            Ok(directory) => empty(&directory, Whose::LowerLayers, &mut self.volume.ledger),
            Err(errno) if leads_nowhere(errno) => Ok(()),
            Err(errno) => Err(stop("open a directory")(errno)),
        }
    }
}

impl Visitor for Unpack {
    type Error = WriteFault;

    fn entry(&mut self, entry: &Entry, content: &mut Content<'_>) -> Step<()> {
        self.progress(entry, BLOCK)?;
        if !self.unwrap {
            return self.write(entry, content);
        }
        match entry.unwrapped().map_err(Stop::Refuse)? {
            Some(entry) => self.write(&entry, content),
            None => Ok(()),
        }
    }
}

/// What a thing has that is made in a directory.
fn before_of_any(parent: &Directory) -> Before {
    if parent.hands_down { Before::HandedDown } else { Before::Nothing }
}

/// What a file has that is made in a directory, with the mode of its entry if that can stay: a
/// setuid or setgid bit would be lost by the first write.
fn before_of(parent: &Directory, entry: &Entry) -> Before {
    let special = Mode::SUID.union(Mode::SGID).as_raw_mode();
    if parent.hands_down || parent.hands_group || entry.mode & special != 0 {
        before_of_any(parent)
    } else {
        Before::Mode
    }
}

/// Writes all bytes at an offset, and says where they end.
fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Step<u64> {
    while !bytes.is_empty() {
        let count = rustix::io::pwrite(file, bytes, offset).map_err(stop("write a file"))?;
        bytes = bytes.get(count..).unwrap_or_default();
        offset = offset.saturating_add(count as u64);
    }
    Ok(offset)
}
