//! How far a piece of work is: written by it, read by whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The figures of one piece of work. All are monotonous within one attempt.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    retries: AtomicU64,
    /// What fetching took, hashing left out where it takes turns with it.
    pub(super) get: Clock,
    /// What hashing took.
    pub(super) hash: Clock,
    /// What flushing took.
    pub(super) flush: Clock,
}

/// The bytes and the time of a part of the work.
#[derive(Debug, Default)]
pub(super) struct Clock {
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl Clock {
    /// Adds to both.
    pub(super) fn add(&self, bytes: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn read(&self) -> Option<Spent> {
        let took = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        let bytes = self.bytes.load(Ordering::Relaxed);
        (!took.is_zero()).then_some(Spent { bytes, took })
    }
}

/// The bytes and the time of a part of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spent {
    /// Bytes.
    pub bytes: u64,
    /// Time.
    pub took: Duration,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Bytes that are done, those of earlier attempts included.
    pub done_bytes: u64,
    /// Bytes in all; 0 while it is not known.
    pub total_bytes: u64,
    /// Bytes that came over the network in this attempt.
    pub fetched_bytes: u64,
    /// Requests that had to be made again.
    pub retries: u64,
    /// Fetching, if it was begun.
    pub get: Option<Spent>,
    /// Hashing, if it was begun.
    pub hash: Option<Spent>,
    /// Flushing, if it was begun.
    pub flush: Option<Spent>,
}

impl Progress {
    /// The figures now.
    pub fn figures(&self) -> Figures {
        Figures {
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            get: self.get.read(),
            hash: self.hash.read(),
            flush: self.flush.read(),
        }
    }

    pub(super) fn start(&self, done: u64, total: u64) {
        self.done_bytes.store(done, Ordering::Relaxed);
        self.total_bytes.store(total, Ordering::Relaxed);
        self.fetched_bytes.store(0, Ordering::Relaxed);
    }

    pub(super) fn did(&self, bytes: usize) {
        self.done_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn tried_again(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
