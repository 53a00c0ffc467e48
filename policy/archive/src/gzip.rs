//! gzip (RFC 1952): members one after another, each held to its checksum, zeros behind them.

use std::io::Read;

use airlock_policy::limit::MAX_EMPTY_FRAMES;
use airlock_policy::rule::Rule;
use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::blob::Blob;
use crate::decompress::drain_zeros;
use crate::fault::Fault;

/// The first two bytes of every member.
pub(crate) const MAGIC: &[u8] = &[0x1f, 0x8b];

/// The bits of a member's FLG byte.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
/// The longest file name or comment in a member's header, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// The state of a gzip stream. The inflater is kept from member to member: some blobs have one
/// for every file.
pub(crate) struct Gzip {
    inflate: Decompress,
    crc: Crc,
    in_member: bool,
    members: u64,
    empty_members: u32,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
            in_member: false,
            members: 0,
            empty_members: 0,
        }
    }

    /// See [`Decoder::read`](crate::decompress::Decoder::read).
    pub(crate) fn read<R: Read>(
        &mut self,
        blob: &mut Blob<R>,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        loop {
            if !self.in_member && !self.begin(blob)? {
                return Ok(0);
            }
            let ahead = blob.peek(1)?;
            let ends_here = ahead.is_empty();
            let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(ahead, out, FlushDecompress::None)
                .map_err(|_damaged| Rule::ArchiveCompressed)?;
            let taken = difference(self.inflate.total_in(), taken);
            let given = difference(self.inflate.total_out(), given);
            blob.consume(taken);
            let fresh = out.get(..given).unwrap_or_default();
            self.crc.update(fresh);
            if status == Status::StreamEnd {
                self.end(blob)?;
            } else if given == 0 && (ends_here || taken == 0) {
                return Err(Rule::ArchiveCompressed.into());
            }
            if given > 0 {
                return Ok(given);
            }
        }
    }

    /// Reads the header of the next member. False means that there is none: the blob is over.
    fn begin<R: Read>(&mut self, blob: &mut Blob<R>) -> Result<bool, Fault> {
        let ahead = blob.peek(MAGIC.len())?;
        if !ahead.starts_with(MAGIC) {
            drain_zeros(blob)?;
            return Ok(false);
        }
        let [_, _, method, flags, _, _, _, _, _, _] = blob.take::<10>()?;
        if method != 8 || flags & RESERVED != 0 {
            return Err(Rule::ArchiveCompressed.into());
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes(blob.take()?);
            blob.skip(length.into())?;
        }
        if flags & NAME != 0 {
            skip_text(blob)?;
        }
        if flags & COMMENT != 0 {
            skip_text(blob)?;
        }
        if flags & HEADER_CRC != 0 {
            // Not checked, as gzip itself does not: nothing of the header is used.
            blob.take::<2>()?;
        }
        self.inflate.reset(false);
        self.crc.reset();
        self.in_member = true;
        self.members = self.members.saturating_add(1);
        Ok(true)
    }

    /// Reads the trailer of a member and holds it against what was inflated.
    fn end<R: Read>(&mut self, blob: &mut Blob<R>) -> Result<(), Fault> {
        let sum = u32::from_le_bytes(blob.take()?);
        let length = u32::from_le_bytes(blob.take()?);
        if sum != self.crc.sum() || length != self.crc.amount() {
            return Err(Rule::ArchiveCompressed.into());
        }
        if self.inflate.total_out() == 0 {
            self.empty_members = self.empty_members.saturating_add(1);
            if self.empty_members > MAX_EMPTY_FRAMES {
                return Err(Rule::LimitFrames.into());
            }
        }
        self.in_member = false;
        Ok(())
    }
}

/// Skips a text that ends in NUL.
fn skip_text<R: Read>(blob: &mut Blob<R>) -> Result<(), Fault> {
    let mut length = 0_usize;
    loop {
        let ahead = blob.peek(1)?;
        let text = ahead.iter().take_while(|byte| **byte != 0).count();
        let has_end = text < ahead.len();
        length = length.saturating_add(text);
        if length > MAX_TEXT || ahead.is_empty() {
            return Err(Rule::ArchiveCompressed.into());
        }
        blob.consume(text.saturating_add(usize::from(has_end)));
        if has_end {
            return Ok(());
        }
    }
}

fn difference(after: u64, before: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or_default()
}
