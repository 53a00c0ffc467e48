//! Copies a `tar:` file into the store: as a reflink where the filesystem can, hashed in any case.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::source::Place;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::BlobStore;
use super::partial::Partial;
use super::progress::Progress;
use crate::source::{LocalFile, ObjectInfo, SourceFault};

const CHUNK: usize = 256 << 10;

/// A copy to be made.
pub(super) struct Copy {
    pub(super) store: BlobStore,
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) info: ObjectInfo,
    pub(super) partial: Arc<Partial>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
}

impl Copy {
    /// Copies the file, and says its digest. Blocks.
    pub(super) fn run(self) -> Result<BlobDigest, SourceFault> {
        let source = LocalFile::open(&self.path).map_err(|e| self.unreadable(e))?;
        self.require_unchanged(&source)?;
        self.progress.start(0, self.info.bytes);
        let target = &self.partial.file;
        // A copy is not resumed: it costs no network.
        target.set_len(0).map_err(|e| self.disk("empty the partial file", e))?;
        if rustix::fs::ioctl_ficlone(target, &source.file).is_ok() {
            let digest = self.pump(target, None)?;
            self.require_unchanged(&source)?;
            return Ok(digest);
        }
        self.store.admit(&self.place, self.info.bytes)?;
        self.store.allocate(&self.place, target, self.info.bytes)?;
        let digest = self.pump(&source.file, Some(target))?;
        self.require_unchanged(&source)?;
        Ok(digest)
    }

    /// Reads to the end, hashes, and writes to `target` if there is one.
    fn pump(&self, source: &File, target: Option<&File>) -> Result<BlobDigest, SourceFault> {
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut at = 0_u64;
        let (begun, mut hashing) = (Instant::now(), Duration::ZERO);
        let mut reader = source.take(self.info.bytes.saturating_add(1));
        loop {
            if self.cancel.is_cancelled() {
                return Err(SourceFault::Cancelled);
            }
            let length = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.unreadable(e)),
            };
            let piece = chunk.get(..length).unwrap_or_default();
            let from = Instant::now();
            hasher.update(piece);
            hashing = hashing.saturating_add(from.elapsed());
            if let Some(target) = target {
                target.write_all_at(piece, at).map_err(|e| self.disk("write the blob", e))?;
            }
            at = at.saturating_add(length as u64);
            self.progress.did(length);
        }
        self.progress.hash.add(at, hashing);
        self.progress.get.add(at, begun.elapsed().saturating_sub(hashing));
        if at != self.info.bytes {
            return Err(SourceFault::Changed { place: self.place.clone() });
        }
        Ok(BlobDigest(Digest::from_bytes(hasher.finalize().into())))
    }

    fn require_unchanged(&self, source: &LocalFile) -> Result<(), SourceFault> {
        let now = source.info().map_err(|e| self.unreadable(e))?;
        if now.etag == self.info.etag {
            Ok(())
        } else {
            Err(SourceFault::Changed { place: self.place.clone() })
        }
    }

    fn unreadable(&self, source: io::Error) -> SourceFault {
        SourceFault::File { place: self.place.clone(), source }
    }

    fn disk(&self, attempt: &'static str, error: io::Error) -> SourceFault {
        self.store.disk(&self.place, attempt, error)
    }
}
