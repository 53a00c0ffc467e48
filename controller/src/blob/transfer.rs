//! Moves the missing parts of an object into the partial file, several at a time.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::BlobStore;
use super::partial::Partial;
use super::progress::Progress;
use crate::source::{Body, Pinned, SourceFault, Sources};

/// Bytes that are gathered before they are written: few system calls, little memory.
const WRITE: usize = 512 << 10;

/// A part: its number and its range of the object.
pub(super) type Part = (u64, Range<u64>);

/// What the workers of one download share.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) store: BlobStore,
    pub(super) sources: Sources,
    pub(super) object: Pinned,
    pub(super) partial: Arc<Partial>,
    pub(super) progress: Arc<Progress>,
    pub(super) missing: Mutex<VecDeque<Part>>,
    /// Ends the workers between two writes, never within one: when they are gone, nobody writes.
    pub(super) stop: CancellationToken,
}

impl Transfer {
    /// Fetches everything that is missing, and tells `finished` of each part. Ends with the first
    /// fault that trying again does not cure.
    pub(super) async fn run(self, finished: Sender<u64>) -> Result<(), SourceFault> {
        let transfer = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..transfer.store.concurrency {
            workers.spawn(Arc::clone(&transfer).work(finished.clone()));
        }
        drop(finished);
        let mut outcome = Ok(());
        while let Some(ended) = workers.join_next().await {
            let ended = ended.unwrap_or_else(|e| {
                let place = &transfer.object.place;
                Err(transfer.store.disk(place, "run a worker", io::Error::other(e)))
            });
            if outcome.is_ok() && ended.is_err() {
                transfer.stop.cancel();
                outcome = ended;
            }
        }
        outcome
    }

    async fn work(self: Arc<Self>, finished: Sender<u64>) -> Result<(), SourceFault> {
        let mut buffer = Vec::with_capacity(WRITE);
        while let Some((number, range)) = self.take() {
            buffer = self.fetch(range, buffer).await?;
            // Nobody listens any more only if the keeper failed, which says so itself.
            if finished.send(number).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&self) -> Option<Part> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Fetches one part, and goes on after a passing trouble where it ended.
    async fn fetch(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>, SourceFault> {
        let mut at = range.start;
        let mut buffer = buffer;
        let mut backoff = self.sources.backoff();
        while at < range.end {
            let before = at;
            let fault;
            (buffer, fault) = self.read(&mut at, range.end, buffer).await?;
            let Some(fault) = fault else { continue };
            if at > before {
                backoff.progressed();
            }
            backoff.wait(fault, &self.stop).await?;
            self.progress.tried_again();
        }
        Ok(buffer)
    }

    /// One request from `at` on. Moves `at` behind what was written, also when the request fails.
    async fn read(
        &self,
        at: &mut u64,
        end: u64,
        mut buffer: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<SourceFault>), SourceFault> {
        let asked = self.unless_stopped(Box::pin(self.object.read(&self.sources, *at..end))).await;
        let mut body = match asked {
            Ok(body) => body,
            Err(fault) => return Ok((buffer, Some(fault))),
        };
        loop {
            let fault = self.gather(&mut body, &mut buffer).await.err();
            let is_over = buffer.is_empty();
            let written = buffer.len() as u64;
            buffer = self.write(buffer, *at).await?;
            *at = at.saturating_add(written);
            if is_over || fault.is_some() {
                return Ok((buffer, fault));
            }
        }
    }

    /// Fills the buffer, as far as bytes come.
    async fn gather(&self, body: &mut Body, buffer: &mut Vec<u8>) -> Result<(), SourceFault> {
        while buffer.len() < WRITE {
            let Some(bytes) = self.unless_stopped(body.next(&self.sources)).await? else {
                return Ok(());
            };
            buffer.extend_from_slice(bytes.as_ref());
            self.progress.fetched(bytes.as_ref().len());
        }
        Ok(())
    }

    /// Writes the buffer and gives it back empty.
    async fn write(&self, mut buffer: Vec<u8>, at: u64) -> Result<Vec<u8>, SourceFault> {
        if buffer.is_empty() {
            return Ok(buffer);
        }
        let partial = Arc::clone(&self.partial);
        let length = buffer.len();
        let writing = tokio::task::spawn_blocking(move || {
            partial.file.write_all_at(&buffer, at)?;
            buffer.clear();
            Ok(buffer)
        });
        let written = writing.await.map_err(io::Error::other).flatten();
        let place = &self.object.place;
        let buffer = written.map_err(|e| self.store.disk(place, "write a part", e))?;
        self.progress.did(length);
        crash_point!(PartWritten);
        Ok(buffer)
    }

    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, SourceFault>>,
    ) -> Result<T, SourceFault> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(SourceFault::Cancelled),
            done = work => done,
        }
    }
}
