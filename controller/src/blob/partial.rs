//! An unfinished download: one data file, locked by whoever writes it.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::source::Place;

use super::journal::Journal;
use super::{BlobStat, BlobStore, FILE_MODE, remove_file};
use crate::source::ObjectInfo;

/// The name of an unfinished download: its place and the `ETag` or version that it is pinned to. An
/// object that changed gets another.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PartialId(String);

impl PartialId {
    /// The name for an object as it was seen.
    pub fn of(place: &Place, info: &ObjectInfo) -> Self {
        let pin = info.etag.as_ref().or(info.version.as_ref());
        let text = format!("{place}\n{}\n{}", info.bytes, pin.map_or("", String::as_str));
        Self(Digest::of(text.as_bytes()).hex())
    }

    /// The name that a file of the partial folder belongs to.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".data").or_else(|| name.strip_suffix(".journal"))?;
        Digest::from_hex(stem).is_ok().then(|| Self(stem.to_owned()))
    }
}

impl fmt::Display for PartialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An unfinished download, held by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Partial {
    /// The data. Its lock is the partial's.
    pub(super) file: File,
    path: PathBuf,
    journal_path: PathBuf,
}

impl Partial {
    /// Opens and locks; `None` if another download holds it.
    pub(super) fn open(store: &BlobStore, id: &PartialId) -> io::Result<Option<Self>> {
        let path = store.partial().join(format!("{id}.data"));
        let journal_path = store.partial().join(format!("{id}.journal"));
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
            // The one who held it may have finished it between open and lock: then this is a blob.
            if is_at(&file, &path)? {
                return Ok(Some(Self { file, path, journal_path }));
            }
        }
    }

    /// Opens the journal; without data of the right size nothing in it counts.
    pub(super) fn journal(&self, bytes: u64, part_size: u64) -> io::Result<Journal> {
        if self.file.metadata()?.len() != bytes {
            self.file.set_len(0)?;
            remove_file(&self.journal_path)?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Journal::open(&self.journal_path, bytes, part_size, boot.trim())
    }

    /// Bytes of the disk that the data takes already.
    pub(super) fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks().saturating_mul(512))
    }

    /// Makes the data a blob: flushed, then under its digest's name, for good.
    ///
    /// A blob of that name is replaced: its content was checked long ago, this one's just now.
    pub(super) fn finish(&self, store: &BlobStore, digest: BlobDigest) -> io::Result<BlobStat> {
        self.file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        self.file.sync_all()?;
        crash_point!(BlobFlushed);
        fs::rename(&self.path, store.path(digest))?;
        crash_point!(BlobNamed);
        sync_folder(&store.whole())?;
        remove_file(&self.journal_path)?;
        crash_point!(BlobWhole);
        sync_folder(&store.partial())?;
        Ok(BlobStat::of(&self.file.metadata()?))
    }

    /// Throws the data away.
    pub(super) fn discard(&self) -> io::Result<()> {
        remove_file(&self.path)?;
        remove_file(&self.journal_path)?;
        Ok(())
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
