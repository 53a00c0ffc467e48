//! The worker's other threads. They are started before the filter, which lets nothing be started, and
//! wait; the filter then holds all of them, and no rule has to tell a thread from a process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use airlock_archive::Work;
use rustix::io::Errno;

/// Decompressors keep their tables elsewhere.
const STACK: usize = 512 << 10;

/// A thread that waits for its one piece of work. Without any, it ends with this handle.
#[derive(Debug)]
pub struct Reader(SyncSender<Work>);

impl Reader {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Self> {
        let (give, work) = sync_channel::<Work>(1);
        // Detached: it ends with the process.
        drop(start(move || {
            if let Ok(work) = work.recv() {
                work();
            }
        })?);
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
pub struct Flusher {
    nudge: SyncSender<()>,
    thread: JoinHandle<Result<(), Errno>>,
}

impl Flusher {
    /// Starts it. It flushes the volume of which `root` is the root.
    pub(crate) fn start(root: OwnedFd) -> io::Result<Self> {
        let (nudge, nudged) = sync_channel(1);
        let thread = start(move || {
            let mut first = Ok(());
            while nudged.recv().is_ok() {
                first = first.and(rustix::fs::syncfs(&root));
            }
            first
        })?;
        Ok(Self { nudge, thread })
    }

    /// Has it flush all that is written so far, unless it is behind.
    pub(crate) fn flush(&self) {
        self.nudge.try_send(()).ok();
    }

    /// Waits for its end, and answers the first error that it was told of.
    pub(crate) fn end(self) -> Result<(), Errno> {
        let Self { nudge, thread } = self;
        drop(nudge);
        // It has nothing to panic over.
        thread.join().unwrap_or(Err(Errno::IO))
    }
}

/// Starts a thread. What the calling thread gave up before, this one never has: credentials, Landlock
/// and filters are handed down (landlock(7), capabilities(7), seccomp(2)).
fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let (ready, is_ready) = sync_channel(1);
    let thread = Builder::new().stack_size(STACK).spawn(move || {
        // Past this line a thread does nothing more that only its start needs.
        ready.send(()).ok();
        work()
    })?;
    is_ready.recv().map_err(io::Error::other)?;
    Ok(thread)
}
