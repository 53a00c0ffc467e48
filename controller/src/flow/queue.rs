//! How many flows may be at the same kind of work at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::QueuesConfig;

/// A kind of work that takes turns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Fetching and scanning blobs.
    Download,
    /// Extracting layers.
    Unpack,
    /// Taking snapshots: the pool's changes are serialised by the helper anyway.
    Activate,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Download, Self::Unpack, Self::Activate];

    /// Its name, which is its key's in `daemon.toml`, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "downloads",
            Self::Unpack => "unpack",
            Self::Activate => "activate",
        }
    }

    /// How many may be at it; `None` for as many as there are.
    pub fn limit(self, config: &QueuesConfig) -> Option<u32> {
        match self {
            Self::Download => Some(config.downloads),
            Self::Unpack => Some(config.unpack_limit()),
            Self::Activate => config.activate,
        }
    }
}

/// The queues.
#[derive(Clone, Debug)]
pub struct Queues {
    config: QueuesConfig,
    download: Arc<Semaphore>,
    unpack: Arc<Semaphore>,
    activate: Arc<Semaphore>,
}

impl Queues {
    /// Queues with these limits.
    pub fn of(config: &QueuesConfig) -> Self {
        let semaphore = |queue: Queue| {
            let limit = queue.limit(config).map(|limit| usize::try_from(limit.max(1)));
            let limit = limit.and_then(Result::ok).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            config: config.clone(),
            download: semaphore(Queue::Download),
            unpack: semaphore(Queue::Unpack),
            activate: semaphore(Queue::Activate),
        }
    }

    /// How many may be at this kind of work; `None` for as many as there are.
    pub fn limit(&self, queue: Queue) -> Option<u32> {
        queue.limit(&self.config)
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
