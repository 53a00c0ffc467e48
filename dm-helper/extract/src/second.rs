//! The worker's second thread. It is started before the filter, which lets nothing be started, and
//! waits; the filter then holds both, and no rule has to tell a thread from a process.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

use airlock_archive::Work;

/// Decompressors keep their tables elsewhere.
const STACK: usize = 512 << 10;

/// A thread that waits for its one piece of work. Without any, it ends with this handle.
#[derive(Debug)]
pub struct Second(SyncSender<Work>);

impl Second {
    /// Starts it. What the calling thread gave up before, this one never has: credentials, Landlock
    /// and filters are handed down (landlock(7), capabilities(7), seccomp(2)).
    pub(crate) fn start() -> io::Result<Self> {
        let (give, work) = sync_channel::<Work>(1);
        let (ready, is_ready) = sync_channel(1);
        // Detached: it ends with the process.
        drop(Builder::new().stack_size(STACK).spawn(move || {
            // Past this line a thread does nothing more that only its start needs.
            if ready.send(()).is_ok()
                && let Ok(work) = work.recv()
            {
                work();
            }
        })?);
        is_ready.recv().map_err(io::Error::other)?;
        Ok(Self(give))
    }

    /// Gives it its work.
    pub(crate) fn does(self, work: Work) {
        // A thread that died takes none: whoever waits for what it was to do is told.
        drop(self.0.send(work));
    }
}
