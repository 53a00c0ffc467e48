//! The blobs: fetched bytes by their SHA-256, and the downloads that are not finished.
//!
//! `<blobs>/sha256/<64 hex digits>` are whole blobs, which the helper reads through their group;
//! `<blobs>/partial/` holds what a download has so far, and its journal.

mod copy;
mod fetch;
mod journal;
mod keeper;
mod partial;
mod progress;
mod scan;
mod space;
mod sweep;
mod transfer;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::size::ByteSize;
use rustix::fs::{Mode, OFlags};

pub use self::fetch::{Fetched, Wanted};
pub use self::partial::PartialId;
pub use self::progress::{Figures, Progress, Spent};
pub use self::scan::{Layer, ScanFault};
pub use self::sweep::Swept;
use crate::config::Config;

/// The mode of a blob: the helper's group reads, nobody else.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// The folder of the blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folder: PathBuf,
    object_size: ByteSize,
    disk_reserve: ByteSize,
    part_size: u64,
    concurrency: u32,
}

/// What identifies a blob's file: recorded with a check, it tells later whether the file is still
/// the one that was checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobStat {
    /// Its size.
    pub bytes: u64,
    /// Its inode.
    pub inode: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl BlobStat {
    fn of(data: &fs::Metadata) -> Self {
        let nanos = data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec());
        Self { bytes: data.len(), inode: data.ino(), mtime_ns: nanos }
    }
}

impl BlobStore {
    /// Opens the folder, and makes it where it is missing.
    pub fn open(config: &Config) -> io::Result<Self> {
        let store = Self {
            folder: config.blobs_dir(),
            object_size: config.limits.object_size,
            disk_reserve: config.limits.disk_reserve,
            part_size: config.s3.part_size.0,
            concurrency: config.s3.concurrency,
        };
        make_folder(&store.folder)?;
        make_folder(&store.whole())?;
        make_folder(&store.partial())?;
        Ok(store)
    }

    /// The folder of whole blobs.
    fn whole(&self) -> PathBuf {
        self.folder.join("sha256")
    }

    /// The folder of unfinished downloads.
    fn partial(&self) -> PathBuf {
        self.folder.join("partial")
    }

    fn path(&self, digest: BlobDigest) -> PathBuf {
        self.whole().join(digest.0.hex())
    }

    /// Opens a blob to read it.
    pub fn open_blob(&self, digest: BlobDigest) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(self.path(digest), flags, Mode::empty())?))
    }

    /// What the blob's file is now; `None` if it is not held.
    pub fn stat(&self, digest: BlobDigest) -> io::Result<Option<BlobStat>> {
        match fs::symlink_metadata(self.path(digest)) {
            Ok(data) if data.is_file() => Ok(Some(BlobStat::of(&data))),
            Ok(_) => Err(io::Error::other("a blob's name is held by what is no file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes a blob; true if it was there.
    pub fn remove(&self, digest: BlobDigest) -> io::Result<bool> {
        let was_there = remove_file(&self.path(digest))?;
        crash_point!(BlobGone);
        Ok(was_there)
    }

    /// Every blob that is held, in no order. Files of other names are passed over.
    pub fn list(&self) -> io::Result<Vec<BlobDigest>> {
        let mut held = Vec::new();
        for entry in fs::read_dir(self.whole())? {
            let name = entry?.file_name();
            held.extend(name.to_str().and_then(|hex| Digest::from_hex(hex).ok()).map(BlobDigest));
        }
        Ok(held)
    }
}

/// Makes a folder, with its mode whatever the umask is. One that exists is left as it is.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn remove_file(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
