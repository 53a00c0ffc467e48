//! The blob's bytes as they come: counted, hashed, looked ahead into.

use std::io::{ErrorKind, Read};

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::rule::Rule;
use sha2::{Digest as _, Sha256};

use crate::buffer::Buffer;
use crate::fault::Fault;

/// How many bytes are asked for at once.
const CAPACITY: usize = 128 << 10;

/// A blob on its way through.
pub(crate) struct Blob<R> {
    reader: R,
    buffer: Buffer,
    hasher: Sha256,
    /// How many bytes were read so far, those that lie ahead among them.
    bytes: u64,
    is_over: bool,
}

impl<R: Read> Blob<R> {
    pub(crate) fn new(reader: R) -> Self {
        let buffer = Buffer::new(CAPACITY);
        Self { reader, buffer, hasher: Sha256::new(), bytes: 0, is_over: false }
    }

    /// The bytes that lie ahead: at least `wanted`, unless the blob ends before.
    pub(crate) fn peek(&mut self, wanted: usize) -> Result<&[u8], Fault> {
        while self.buffer.filled().len() < wanted && !self.is_over {
            match self.reader.read(self.buffer.room()) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    let fresh = self.buffer.grown(count);
                    self.hasher.update(fresh);
                    self.bytes = self.bytes.saturating_add(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Read(error)),
            }
        }
        Ok(self.buffer.filled())
    }

    /// Exactly `N` bytes, which are taken; [`Rule::ArchiveCompressed`] if the blob ends before.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = *self.peek(N)?.first_chunk().ok_or(Rule::ArchiveCompressed)?;
        self.buffer.consume(N);
        Ok(bytes)
    }

    /// Skips `length` bytes; [`Rule::ArchiveCompressed`] if the blob ends before.
    pub(crate) fn skip(&mut self, length: u32) -> Result<(), Fault> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while left > 0 {
            let count = self.peek(1)?.len().min(left);
            if count == 0 {
                return Err(Rule::ArchiveCompressed.into());
            }
            self.consume(count);
            left = left.saturating_sub(count);
        }
        Ok(())
    }

    /// Takes bytes that were peeked.
    pub(crate) fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }

    /// How many bytes were taken so far: all of the blob's, once it is over.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.buffer.filled().len() as u64)
    }

    /// The digest of all bytes so far: the blob's, once it is over.
    pub(crate) fn digest(&self) -> BlobDigest {
        BlobDigest(Digest::from_bytes(self.hasher.clone().finalize().into()))
    }
}
