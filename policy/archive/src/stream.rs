//! The uncompressed bytes of a layer: counted, hashed, held to the limits, taken block by
//! block (TAR-3).

use airlock_policy::rule::Rule;

use crate::decompress::is_zero;
use crate::fault::Fault;
use crate::source::{Batch, Totals};
use crate::supply::Supply;

/// The size of a tar block, in bytes.
pub(crate) const BLOCK: usize = 512;

/// A layer on its way through.
pub(crate) struct Stream<'s> {
    supply: &'s mut dyn Supply,
    batch: Batch,
    /// How much of the batch was taken.
    taken: usize,
    /// Once the last batch was come to.
    totals: Option<Totals>,
}

/// Where content comes from.
pub(crate) trait Feed {
    /// The bytes that lie ahead, at least one; [`Rule::ArchiveTruncated`] at the end.
    fn ahead(&mut self) -> Result<&[u8], Fault>;
    /// Takes bytes that lay ahead.
    fn consume(&mut self, count: usize);
}

impl<'s> Stream<'s> {
    pub(crate) fn new(supply: &'s mut dyn Supply) -> Self {
        Self { supply, batch: Batch::new(), taken: 0, totals: None }
    }

    /// The bytes that lie ahead: at least `wanted`, of the same block, unless the layer ends before.
    ///
    /// Batches are whole blocks, and everything in an archive begins at a block: so what is wanted
    /// never lies in two of them.
    fn peek(&mut self, wanted: usize) -> Result<&[u8], Fault> {
        while self.left() < wanted && self.totals.is_none() {
            if let Some(end) = self.batch.take_end() {
                self.totals = Some(end?);
                break;
            }
            debug_assert_eq!(self.left(), 0, "nothing that is wanted lies in two batches");
            self.batch = self.supply.next(std::mem::replace(&mut self.batch, Batch::none()))?;
            self.taken = 0;
        }
        Ok(self.batch.bytes().get(self.taken..).unwrap_or_default())
    }

    fn left(&self) -> usize {
        self.batch.bytes().len().saturating_sub(self.taken)
    }

    /// The next block; `None` if the layer ends here. A last block that is cut off passes if it
    /// is zeros, which then are taken for a whole block of them.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let ahead = self.peek(BLOCK)?;
        match ahead.first_chunk() {
            Some(block) => {
                let block = *block;
                self.consume(BLOCK);
                Ok(Some(block))
            }
            None if ahead.is_empty() => Ok(None),
            None if is_zero(ahead) => Ok(Some([0; BLOCK])),
            None => Err(Rule::ArchiveTruncated.into()),
        }
    }

    /// The next block, which must be there whole.
    pub(crate) fn whole_block(&mut self) -> Result<[u8; BLOCK], Fault> {
        let block = *self.peek(BLOCK)?.first_chunk().ok_or(Rule::ArchiveTruncated)?;
        self.consume(BLOCK);
        Ok(block)
    }

    /// The next `length` bytes, which the caller has held to a limit, and the padding after them.
    pub(crate) fn body(&mut self, length: u64) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        let mut left = length;
        while left > 0 {
            let ahead = self.ahead()?;
            let count = ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            body.extend(ahead.iter().take(count));
            self.consume(count);
            left = left.saturating_sub(count as u64);
        }
        self.skip_padding(length)?;
        Ok(body)
    }

    /// Skips `length` bytes, which must be there.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), Fault> {
        let mut left = length;
        while left > 0 {
            let ahead = self.ahead()?.len();
            let count = ahead.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(count);
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    /// Skips what fills up the last block of `length` bytes. It may be missing at the end of a
    /// layer: real tools leave it out.
    pub(crate) fn skip_padding(&mut self, length: u64) -> Result<(), Fault> {
        let rest = usize::try_from(length % 512).unwrap_or_default();
        if rest > 0 {
            let padding = BLOCK.saturating_sub(rest);
            let ahead = self.peek(padding)?.len();
            self.consume(padding.min(ahead));
        }
        Ok(())
    }

    /// Reads on to the very end of the blob. All that is left must be zeros: a second archive
    /// would be seen by some readers and not by others.
    pub(crate) fn drain_zeros(&mut self) -> Result<(), Fault> {
        loop {
            let ahead = self.peek(1)?;
            let count = ahead.len();
            if count == 0 {
                return Ok(());
            }
            if !is_zero(ahead) {
                return Err(Rule::ArchiveTrailing.into());
            }
            self.consume(count);
        }
    }

    /// What is known of the layer; `None` unless it was read to its end.
    pub(crate) fn totals(&self) -> Option<Totals> {
        self.totals
    }
}

impl Feed for Stream<'_> {
    fn ahead(&mut self) -> Result<&[u8], Fault> {
        let ahead = self.peek(1)?;
        if ahead.is_empty() { Err(Rule::ArchiveTruncated.into()) } else { Ok(ahead) }
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.batch.bytes().len());
    }
}
