//! The worker's other threads. They are started before the filter, which lets nothing be started, and
//! wait; the filter then holds all of them, and no rule has to tell a thread from a process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

use airlock_archive::Work;

/// Decompressors keep their tables elsewhere.
const STACK: usize = 512 << 10;

/// A thread that waits for its one piece of work. Without any, it ends with this handle.
#[derive(Debug)]
pub struct Reader(SyncSender<Work>);

impl Reader {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Self> {
        let (give, work) = sync_channel::<Work>(1);
        start(move || {
            if let Ok(work) = work.recv() {
                work();
            }
        })?;
        Ok(Self(give))
    }

    /// Gives it its work.
    pub(crate) fn does(self, work: Work) {
        // A thread that died takes none: whoever waits for what it was to do is told.
        drop(self.0.send(work));
    }
}

/// A thread that has the device work on what is written while more of it comes.
#[derive(Debug)]
pub struct Flusher(SyncSender<()>);

impl Flusher {
    /// Starts it. `root` is a description of the volume that nobody else has: an error is told once to
    /// each (syncfs(2)), and the flush that counts is the one at the end.
    pub(crate) fn start(root: OwnedFd) -> io::Result<Self> {
        let (nudge, nudged) = sync_channel(1);
        start(move || {
            while nudged.recv().is_ok() {
                rustix::fs::syncfs(&root).ok();
            }
        })?;
        Ok(Self(nudge))
    }

    /// Has it flush all that is written so far, unless it is behind.
    pub(crate) fn flush(&self) {
        self.0.try_send(()).ok();
    }
}

/// Starts a thread. What the calling thread gave up before, this one never has: credentials, Landlock
/// and filters are handed down (landlock(7), capabilities(7), seccomp(2)).
fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (ready, is_ready) = sync_channel(1);
    // Detached: it ends with the process.
    drop(Builder::new().stack_size(STACK).spawn(move || {
        // Past this line a thread does nothing more that only its start needs.
        if ready.send(()).is_ok() {
            work();
        }
    })?);
    is_ready.recv().map_err(io::Error::other)
}
