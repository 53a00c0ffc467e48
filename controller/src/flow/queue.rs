//! How many flows may be at the same kind of work at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A kind of work that takes turns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Fetching and scanning blobs.
    Download,
    /// Extracting layers.
    Unpack,
    /// Taking snapshots: the pool's changes are serialised anyway.
    Activate,
}

/// The queues.
#[derive(Clone, Debug)]
pub struct Queues {
    download: Arc<Semaphore>,
    unpack: Arc<Semaphore>,
    activate: Arc<Semaphore>,
}

impl Queues {
    /// Queues with these limits, each at least 1.
    pub fn new(downloads: u32, unpacks: u32) -> Self {
        let semaphore = |limit: u32| {
            let limit = usize::try_from(limit.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
        };
        Self { download: semaphore(downloads), unpack: semaphore(unpacks), activate: semaphore(1) }
    }

    /// Waits for a turn, first come first served. It lasts until the permit is dropped.
    pub async fn turn(&self, queue: Queue) -> Option<OwnedSemaphorePermit> {
        let semaphore = match queue {
            Queue::Download => &self.download,
            Queue::Unpack => &self.unpack,
            Queue::Activate => &self.activate,
        };
        // A semaphore that is never closed always gives a permit.
        Arc::clone(semaphore).acquire_owned().await.ok()
    }
}
