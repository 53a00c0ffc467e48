//! The uncompressed bytes of a layer: counted, hashed, held to the limits, taken block by
//! block (TAR-3).

use std::io::Read;

use airlock_policy::digest::{BlobDigest, DiffId, Digest};
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::rule::Rule;
use sha2::{Digest as _, Sha256};

use crate::blob::Blob;
use crate::buffer::Buffer;
use crate::decompress::{Compression, Decoder, is_zero};
use crate::fault::Fault;

/// The size of a tar block, in bytes.
pub(crate) const BLOCK: usize = 512;
const CAPACITY: usize = 256 << 10;

/// A layer on its way through.
pub(crate) struct Stream<'l, R> {
    blob: Blob<R>,
    decoder: Decoder,
    buffer: Buffer,
    /// `None` for a plain blob: its digest is the diff id.
    hasher: Option<Sha256>,
    bytes: u64,
    is_over: bool,
    limits: &'l ArchiveLimits,
}

/// Where content comes from, without the type of the blob's reader.
pub(crate) trait Feed {
    /// The bytes that lie ahead, at least one; [`Rule::ArchiveTruncated`] at the end.
    fn ahead(&mut self) -> Result<&[u8], Fault>;
    /// Takes bytes that lay ahead.
    fn consume(&mut self, count: usize);
}

impl<'l, R: Read> Stream<'l, R> {
    pub(crate) fn new(reader: R, limits: &'l ArchiveLimits) -> Result<Self, Fault> {
        let mut blob = Blob::new(reader);
        let decoder = Decoder::for_blob(&mut blob)?;
        let hasher = match decoder {
            Decoder::Plain => None,
            Decoder::Gzip(_) | Decoder::Zstd(_) => Some(Sha256::new()),
        };
        let buffer = Buffer::new(CAPACITY);
        Ok(Self { blob, decoder, buffer, hasher, bytes: 0, is_over: false, limits })
    }

    /// The bytes that lie ahead: at least `wanted`, unless the layer ends before.
    fn peek(&mut self, wanted: usize) -> Result<&[u8], Fault> {
        while self.buffer.filled().len() < wanted && !self.is_over {
            let count = self.decoder.read(&mut self.blob, self.buffer.room())?;
            let fresh = self.buffer.grown(count);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(fresh);
            }
            self.is_over = count == 0;
            self.bytes = self.bytes.saturating_add(count as u64);
            if self.bytes > self.limits.total_bytes {
                return Err(Rule::LimitTotal.into());
            }
            if self.bytes > self.limits.ratio_from_bytes
                && self.bytes > self.blob.bytes().saturating_mul(self.limits.ratio)
            {
                return Err(Rule::LimitRatio.into());
            }
        }
        Ok(self.buffer.filled())
    }

    /// The next block; `None` if the layer ends here. A last block that is cut off passes if it
    /// is zeros, which then are taken for a whole block of them.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let ahead = self.peek(BLOCK)?;
        match ahead.first_chunk() {
            Some(block) => {
                let block = *block;
                self.buffer.consume(BLOCK);
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
        self.buffer.consume(BLOCK);
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
            self.buffer.consume(padding.min(ahead));
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
            self.buffer.consume(count);
        }
    }

    /// The digests of blob and layer, final once the layer is over.
    pub(crate) fn digests(&self) -> (BlobDigest, DiffId) {
        let blob = self.blob.digest();
        let diff = match &self.hasher {
            None => blob.0,
            Some(hasher) => Digest::from_bytes(hasher.clone().finalize().into()),
        };
        (blob, DiffId(diff))
    }

    /// How many bytes blob and layer have, final once the layer is over.
    pub(crate) fn lengths(&self) -> (u64, u64) {
        (self.blob.bytes(), self.bytes)
    }

    pub(crate) fn compression(&self) -> Compression {
        self.decoder.compression()
    }
}

impl<R: Read> Feed for Stream<'_, R> {
    fn ahead(&mut self) -> Result<&[u8], Fault> {
        let ahead = self.peek(1)?;
        if ahead.is_empty() { Err(Rule::ArchiveTruncated.into()) } else { Ok(ahead) }
    }

    fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }
}
