//! Where batches come from: filled by the thread that wants them, or by another one ahead of it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use airlock_policy::limit::ArchiveLimits;

use crate::fault::Fault;
use crate::source::{Batch, Source};

/// How many batches are on their way at once: what bounds the memory, and how far ahead is read.
const AHEAD: usize = 4;

/// Something that another thread is to do.
pub type Work = Box<dyn FnOnce() + Send>;

/// Gives the next batch for one that is used up.
pub(crate) trait Supply {
    fn next(&mut self, used: Batch) -> Result<Batch, Fault>;
}

impl<R: Read> Supply for Source<R> {
    fn next(&mut self, mut used: Batch) -> Result<Batch, Fault> {
        self.fill(&mut used);
        Ok(used)
    }
}

/// The near end of a thread that reads ahead.
pub(crate) struct Ahead {
    filled: Receiver<Batch>,
    empty: Sender<Batch>,
}

/// Splits a layer's reading in two: what the other thread is to do, and where its batches arrive.
pub(crate) fn ahead<R: Read + Send + 'static>(reader: R, limits: ArchiveLimits) -> (Work, Ahead) {
    let (fill, filled) = sync_channel(AHEAD);
    let (empty, empties) = channel();
    for _ in 1..AHEAD {
        // The other end stands above: it cannot be gone.
        drop(empty.send(Batch::new()));
    }
    (
        Box::new(move || read_ahead(Source::new(reader, limits), &fill, &empties)),
        Ahead { filled, empty },
    )
}

/// Fills batches until the layer is over, or nobody wants more of it.
fn read_ahead<R: Read>(mut source: Source<R>, fill: &SyncSender<Batch>, empties: &Receiver<Batch>) {
    while let Ok(mut batch) = empties.recv() {
        source.fill(&mut batch);
        let goes_on = batch.goes_on();
        if fill.send(batch).is_err() || !goes_on {
            return;
        }
    }
}

impl Supply for Ahead {
    fn next(&mut self, used: Batch) -> Result<Batch, Fault> {
        // A thread that is gone has said so by what it sent last.
        drop(self.empty.send(used));
        let gone = |_gone| Fault::Read(io::Error::other("the thread that reads ahead has ended"));
        self.filled.recv().map_err(gone)
    }
}
