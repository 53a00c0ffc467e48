//! The thread beside a download: notes finished parts, flushes, and hashes in order what is there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use airlock_policy::digest::{BlobDigest, Digest};
use sha2::{Digest as _, Sha256};

use super::journal::Journal;
use super::progress::Progress;

/// How much of a download a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(5);
const CHUNK: usize = 256 << 10;

/// What the thread works on.
pub(super) struct Keeper<'a> {
    pub(super) file: &'a File,
    pub(super) journal: Journal,
    pub(super) bytes: u64,
    pub(super) progress: &'a Progress,
}

impl Keeper<'_> {
    /// Works until all parts are hashed, or nobody sends any more.
    ///
    /// The digest; `None` if parts are missing.
    pub(super) fn run(mut self, finished: &Receiver<u64>) -> io::Result<Option<BlobDigest>> {
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut next = 0;
        let mut is_open = true;
        let mut synced = Instant::now();
        let parts = self.bytes.div_ceil(self.journal.part_size);
        while next < parts {
            // Noting comes first: what is noted is not fetched again, hashing can be repeated.
            while is_open {
                match finished.try_recv() {
                    Ok(part) => self.journal.wrote(part)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => is_open = false,
                }
            }
            if synced.elapsed() > SYNC_EVERY {
                self.sync()?;
                synced = Instant::now();
            }
            if self.journal.parts.contains(&next) {
                // Nobody waits for a digest that cannot be finished.
                if !is_open && !is_complete(&self.journal.parts, parts) {
                    break;
                }
                self.hash(next, &mut hasher, &mut chunk)?;
                next = next.saturating_add(1);
            } else if is_open {
                match finished.recv_timeout(SYNC_EVERY) {
                    Ok(part) => self.journal.wrote(part)?,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => is_open = false,
                }
            } else {
                break;
            }
        }
        if next == parts {
            return Ok(Some(BlobDigest(Digest::from_bytes(hasher.finalize().into()))));
        }
        self.sync()?;
        Ok(None)
    }

    fn sync(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        self.file.sync_data()?;
        let synced = self.journal.synced();
        self.progress.flush.add(0, begun.elapsed());
        synced
    }

    fn hash(&self, part: u64, hasher: &mut Sha256, chunk: &mut [u8]) -> io::Result<()> {
        let mut at = part.saturating_mul(self.journal.part_size);
        let end = at.saturating_add(self.journal.part_size).min(self.bytes);
        while at < end {
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let Some(piece) = chunk.get_mut(..length) else { break };
            self.file.read_exact_at(piece, at)?;
            let begun = Instant::now();
            hasher.update(piece);
            self.progress.hash.add(length as u64, begun.elapsed());
            at = at.saturating_add(length as u64);
        }
        Ok(())
    }
}

/// Whether every part is there.
fn is_complete(parts: &BTreeSet<u64>, count: u64) -> bool {
    parts.len() as u64 == count
}
