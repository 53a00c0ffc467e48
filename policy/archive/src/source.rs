//! From a blob to its uncompressed bytes, a batch at a time: decompressed, hashed, held to the limits.
//!
//! One and the same code whether the batches are taken by the same thread or by another: so both
//! ways refuse the same layer at the same byte.

use std::io::Read;

use airlock_policy::digest::{BlobDigest, DiffId, Digest};
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::rule::Rule;
use sha2::{Digest as _, Sha256};

use crate::blob::Blob;
use crate::decompress::{Compression, Decoder};
use crate::fault::Fault;

/// The size of a batch, in bytes: a multiple of a tar block, small enough for a core's own cache.
const BATCH: usize = 256 << 10;

/// Uncompressed bytes, and what came after them.
pub(crate) struct Batch {
    bytes: Box<[u8]>,
    filled: usize,
    end: Option<Result<Totals, Fault>>,
}

/// What is known once a layer is over.
#[derive(Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) blob: BlobDigest,
    pub(crate) diff_id: DiffId,
    pub(crate) compression: Compression,
    pub(crate) blob_bytes: u64,
    pub(crate) tar_bytes: u64,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH].into(), filled: 0, end: None }
    }

    /// No bytes, and no room for any.
    pub(crate) fn none() -> Self {
        Self { bytes: Box::default(), filled: 0, end: None }
    }

    /// The bytes. Fewer than a whole batch only where the layer ends.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// How the layer ends behind these bytes; `None` if it goes on.
    pub(crate) fn take_end(&mut self) -> Option<Result<Totals, Fault>> {
        self.end.take()
    }

    /// Whether another batch follows this one.
    pub(crate) fn goes_on(&self) -> bool {
        self.end.is_none()
    }
}

/// Fills batches from a blob.
pub(crate) struct Source<R> {
    blob: Blob<R>,
    limits: ArchiveLimits,
    /// Known from the first bytes on.
    decoder: Option<Decoder>,
    /// `None` for a plain blob: its digest is the diff id.
    hasher: Option<Sha256>,
    bytes: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(reader: R, limits: ArchiveLimits) -> Self {
        Self { blob: Blob::new(reader), limits, decoder: None, hasher: None, bytes: 0 }
    }

    /// Fills a batch anew, to its brim or to where the layer ends.
    pub(crate) fn fill(&mut self, batch: &mut Batch) {
        (batch.filled, batch.end) = (0, None);
        while let Some(room) = batch.bytes.get_mut(batch.filled..).filter(|room| !room.is_empty()) {
            match self.read(room) {
                Ok(0) => {
                    batch.end = Some(Ok(self.totals()));
                    return;
                }
                Ok(count) => batch.filled = batch.filled.saturating_add(count),
                Err(fault) => {
                    batch.end = Some(Err(fault));
                    return;
                }
            }
        }
    }

    fn read(&mut self, room: &mut [u8]) -> Result<usize, Fault> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let decoder = Decoder::for_blob(&mut self.blob)?;
                self.hasher = match decoder {
                    Decoder::Plain => None,
                    Decoder::Gzip(_) | Decoder::Zstd(_) => Some(Sha256::new()),
                };
                none.insert(decoder)
            }
        };
        let count = decoder.read(&mut self.blob, room)?;
        if let (Some(hasher), Some(fresh)) = (&mut self.hasher, room.get(..count)) {
            hasher.update(fresh);
        }
        self.bytes = self.bytes.saturating_add(count as u64);
        if self.bytes > self.limits.total_bytes {
            return Err(Rule::LimitTotal.into());
        }
        if self.bytes > self.limits.ratio_from_bytes
            && self.bytes > self.blob.bytes().saturating_mul(self.limits.ratio)
        {
            return Err(Rule::LimitRatio.into());
        }
        Ok(count)
    }

    fn totals(&self) -> Totals {
        let blob = self.blob.digest();
        let diff = match &self.hasher {
            None => blob.0,
            Some(hasher) => Digest::from_bytes(hasher.clone().finalize().into()),
        };
        Totals {
            blob,
            diff_id: DiffId(diff),
            compression: self.decoder.as_ref().map_or(Compression::Plain, Decoder::compression),
            blob_bytes: self.blob.bytes(),
            tar_bytes: self.bytes,
        }
    }
}
