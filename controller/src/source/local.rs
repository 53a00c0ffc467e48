//! `tar:` sources: regular files of this machine that the daemon's user can read.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use airlock_policy::source::Place;
use rustix::fs::{Mode, OFlags};

use super::{ObjectInfo, SourceFault};

/// An open source file.
#[derive(Debug)]
pub(crate) struct LocalFile {
    pub(crate) file: File,
}

impl LocalFile {
    /// Opens a regular file. A fifo or a device cannot make the daemon wait.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self { file })
    }

    /// What the file is now. Its `ETag` changes when anybody writes to it or puts another in its
    /// place.
    pub(crate) fn info(&self) -> io::Result<ObjectInfo> {
        let data = self.file.metadata()?;
        let etag =
            format!("{}-{}-{}.{:09}", data.len(), data.ino(), data.mtime(), data.mtime_nsec());
        let millis =
            data.mtime().saturating_mul(1000).saturating_add(data.mtime_nsec() / 1_000_000);
        Ok(ObjectInfo {
            bytes: data.len(),
            etag: Some(etag),
            version: None,
            modified_ms: Some(millis),
        })
    }
}

/// Looks at a file.
pub(super) async fn head(place: &Place, path: String) -> Result<ObjectInfo, SourceFault> {
    let look = move || LocalFile::open(&path)?.info();
    // The path may lie on a filesystem that takes its time.
    let looked = tokio::task::spawn_blocking(look).await.map_err(io::Error::other);
    looked.flatten().map_err(|source| SourceFault::File { place: place.clone(), source })
}
