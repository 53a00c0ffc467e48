//! Brings an object into the store: whole, hashed, flushed, under its digest's name.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::size::ByteSize;
use airlock_policy::source::Place;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::copy::Copy;
use super::journal::Journal;
use super::keeper::Keeper;
use super::partial::{Partial, PartialId};
use super::progress::Progress;
use super::transfer::{Part, Transfer};
use super::{BlobStat, BlobStore};
use crate::source::{ObjectInfo, Pinned, SourceFault, Sources};

/// What is to be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where it lies.
    pub place: &'a Place,
    /// What it was when it was looked at.
    pub info: &'a ObjectInfo,
    /// What its content must be.
    pub pin: Option<Digest>,
}

/// A blob that was fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// Its digest.
    pub digest: BlobDigest,
    /// Its size.
    pub bytes: u64,
    /// Bytes that came over the network this time.
    pub fetched_bytes: u64,
    /// Its file, to be recorded.
    pub stat: BlobStat,
}

impl BlobStore {
    /// Fetches an object.
    ///
    /// Repeatable at any point: what an earlier attempt left is kept and only the rest is fetched.
    /// A cancelled or failed attempt keeps its parts, unless they are of no use to anybody: the
    /// object changed, or is not what its pin says. When this returns, nobody writes any more.
    pub async fn fetch(
        &self,
        sources: &Sources,
        wanted: Wanted<'_>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Fetched, SourceFault> {
        let Wanted { place, info, pin } = wanted;
        if info.bytes > self.object_size.0 {
            return Err(SourceFault::TooLarge {
                place: place.clone(),
                bytes: ByteSize(info.bytes),
                limit: self.object_size,
            });
        }
        let (store, id) = (self.clone(), PartialId::of(place, info));
        let opened = blocking(move || Partial::open(&store, &id)).await;
        let opened = opened.map_err(|e| self.disk(place, "open the partial file", e))?;
        let partial = Arc::new(opened.ok_or_else(|| SourceFault::Busy { place: place.clone() })?);
        let filled = match place {
            Place::S3 { bucket, key } => {
                let (bucket, key) = (bucket.clone(), key.clone());
                let object = Pinned { place: place.clone(), bucket, key, info: info.clone() };
                let transfer = Transfer {
                    store: self.clone(),
                    sources: sources.clone(),
                    object,
                    partial: Arc::clone(&partial),
                    progress: Arc::clone(progress),
                    missing: Mutex::default(),
                    stop: cancel.child_token(),
                };
                self.fill(transfer).await
            }
            Place::Tar { path } => {
                let copy = Copy {
                    store: self.clone(),
                    place: place.clone(),
                    path: path.clone(),
                    info: info.clone(),
                    partial: Arc::clone(&partial),
                    progress: Arc::clone(progress),
                    cancel: cancel.clone(),
                };
                self.joined(place, tokio::task::spawn_blocking(move || copy.run())).await
            }
        };
        let is_useless = matches!(filled, Err(SourceFault::Changed { .. }))
            || filled.as_ref().is_ok_and(|found| pin.is_some_and(|pin| pin != found.0));
        if is_useless {
            let discarding = Arc::clone(&partial);
            let discarded = blocking(move || discarding.discard()).await;
            discarded.map_err(|e| self.disk(place, "remove the partial file", e))?;
        }
        let digest = filled?;
        if let Some(pinned) = pin.filter(|pin| *pin != digest.0) {
            let place = place.clone();
            return Err(SourceFault::Digest { place, pinned, found: digest.0 });
        }
        let (store, begun) = (self.clone(), Instant::now());
        let finished = blocking(move || partial.finish(&store, digest)).await;
        progress.flush.add(info.bytes, begun.elapsed());
        let stat = finished.map_err(|e| self.disk(place, "flush the blob", e))?;
        let fetched_bytes = progress.figures().fetched_bytes;
        Ok(Fetched { digest, bytes: info.bytes, fetched_bytes, stat })
    }

    /// Fetches what is missing of an S3 object, and hashes it on the way.
    async fn fill(&self, mut transfer: Transfer) -> Result<BlobDigest, SourceFault> {
        let (place, bytes) = (transfer.object.place.clone(), transfer.object.info.bytes);
        let journal = self.prepare(&place, bytes, &transfer.partial).await?;
        let missing = missing(&journal, bytes);
        let missing_bytes = missing.iter().fold(0_u64, |sum, (_, range)| {
            sum.saturating_add(range.end.saturating_sub(range.start))
        });
        transfer.progress.start(bytes.saturating_sub(missing_bytes), bytes);
        transfer.missing = Mutex::new(missing);
        let (finished, noted) = mpsc::channel();
        let (partial, progress) = (Arc::clone(&transfer.partial), Arc::clone(&transfer.progress));
        let told = Arc::clone(&progress);
        let keeper = tokio::task::spawn_blocking(move || {
            Keeper { file: &partial.file, journal, bytes, progress: &told }.run(&noted)
        });
        let begun = Instant::now();
        let outcome = transfer.run(finished).await;
        progress.get.add(progress.figures().fetched_bytes, begun.elapsed());
        let digest = keeper.await.map_err(io::Error::other).flatten();
        outcome?;
        let digest = digest.map_err(|e| self.disk(&place, "hash and note the parts", e))?;
        let incomplete = || io::Error::other("a part is missing");
        digest.ok_or_else(|| self.disk(&place, "hash the parts", incomplete()))
    }

    /// Reads the journal, and takes the disk space of what is missing.
    async fn prepare(
        &self,
        place: &Place,
        bytes: u64,
        partial: &Arc<Partial>,
    ) -> Result<Journal, SourceFault> {
        let (store, at, partial) = (self.clone(), place.clone(), Arc::clone(partial));
        let preparing = tokio::task::spawn_blocking(move || {
            let disk = |attempt, e| store.disk(&at, attempt, e);
            let journal = partial
                .journal(bytes, store.part_size)
                .map_err(|e| disk("open the journal of the download", e))?;
            let taken = partial.allocated().map_err(|e| disk("look at the partial file", e))?;
            store.admit(&at, bytes.saturating_sub(taken))?;
            store.allocate(&at, &partial.file, bytes)?;
            Ok(journal)
        });
        self.joined(place, preparing).await
    }

    /// What a blocking thread did.
    async fn joined<T>(
        &self,
        place: &Place,
        work: JoinHandle<Result<T, SourceFault>>,
    ) -> Result<T, SourceFault> {
        let ended = work.await;
        ended.unwrap_or_else(|e| Err(self.disk(place, "run a thread", io::Error::other(e))))
    }
}

/// The parts that are not there, in order.
fn missing(journal: &Journal, bytes: u64) -> VecDeque<Part> {
    let size = journal.part_size;
    (0..bytes.div_ceil(size))
        .filter(|part| !journal.parts.contains(part))
        .map(|part| {
            let start = part.saturating_mul(size);
            (part, start..start.saturating_add(size).min(bytes))
        })
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
