//! What the worker tells the launcher: progress, and how it ended.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use airlock_policy::errand::{Answer, Envelope, Progress};

/// The shortest time between two reports of progress.
const INTERVAL: Duration = Duration::from_millis(200);

/// The pipe to the launcher.
#[derive(Debug)]
pub(crate) struct Reports {
    pipe: OwnedFd,
    envelope: Envelope,
    last: Instant,
}

impl Reports {
    pub(crate) fn new(pipe: OwnedFd, envelope: Envelope) -> Self {
        Self { pipe, envelope, last: Instant::now() }
    }

    /// Sends the last report.
    pub(crate) fn end(&self, answer: &Answer) -> io::Result<()> {
        // A pipe takes a message of this size whole or not at all (pipe(7), PIPE_BUF).
        rustix::io::write(&self.pipe, &answer.encode(&self.envelope))?;
        Ok(())
    }

    /// Says that the volume is mounted: from now on it may take long.
    pub(crate) fn begun(&self) -> io::Result<()> {
        self.end(&Answer::Progress(Progress::default()))
    }

    /// Sends a report of progress, unless the last was sent just now.
    pub(crate) fn progress(&mut self, progress: impl FnOnce() -> Progress) -> io::Result<()> {
        let now = Instant::now();
        if now.saturating_duration_since(self.last) < INTERVAL {
            return Ok(());
        }
        self.last = now;
        self.end(&Answer::Progress(progress()))
    }
}

/// A reader that says how many bytes were read from it, while somebody else reads.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    reader: R,
    bytes: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// The reader, and where its count is found.
    pub(crate) fn new(reader: R) -> (Self, Arc<AtomicU64>) {
        let bytes = Arc::new(AtomicU64::new(0));
        (Self { reader, bytes: Arc::clone(&bytes) }, bytes)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
