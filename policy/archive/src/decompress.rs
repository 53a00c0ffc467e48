//! Which compression a blob has, told by its first bytes and never by a name.

use std::io::Read;

use airlock_policy::rule::Rule;

use crate::blob::Blob;
use crate::fault::Fault;
use crate::gzip::Gzip;
use crate::zstd::Zstd;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// zstd (RFC 8878), one frame or several.
    Zstd,
}

/// The decoder of one blob.
pub(crate) enum Decoder {
    Plain,
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// The decoder for what lies ahead.
    pub(crate) fn for_blob<R: Read>(blob: &mut Blob<R>) -> Result<Self, Fault> {
        let ahead = blob.peek(4)?;
        if ahead.starts_with(crate::gzip::MAGIC) {
            return Ok(Self::Gzip(Box::new(Gzip::new())));
        }
        match ahead.first_chunk() {
            Some(magic) if crate::zstd::is_magic(*magic) => {
                Ok(Self::Zstd(Box::new(Zstd::new().map_err(Fault::Read)?)))
            }
            _ => Ok(Self::Plain),
        }
    }

    /// Writes the next uncompressed bytes to the front of `out`, which is not empty, and says how
    /// many. None means that the blob is over, to its last byte.
    pub(crate) fn read<R: Read>(
        &mut self,
        blob: &mut Blob<R>,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        match self {
            Self::Plain => {
                let ahead = blob.peek(1)?;
                // `&[u8]` is a reader too; reading from it cannot fail.
                let count = { ahead }.read(out).map_err(Fault::Read)?;
                blob.consume(count);
                Ok(count)
            }
            Self::Gzip(gzip) => gzip.read(blob, out),
            Self::Zstd(zstd) => zstd.read(blob, out),
        }
    }

    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Plain => Compression::Plain,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

/// Takes what is left of the blob, which must be zeros: padding, as tapes and gzip have it.
pub(crate) fn drain_zeros<R: Read>(blob: &mut Blob<R>) -> Result<(), Fault> {
    loop {
        let ahead = blob.peek(1)?;
        let count = ahead.len();
        if count == 0 {
            return Ok(());
        }
        if !is_zero(ahead) {
            return Err(Rule::ArchiveTrailing.into());
        }
        blob.consume(count);
    }
}

/// Whether all bytes are zero. Folds, for the compiler to vectorise.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |seen, byte| seen | byte) == 0
}

#[cfg(test)]
mod tests;
