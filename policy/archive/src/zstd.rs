//! zstd (RFC 8878): frames one after another, skippable ones skipped, windows bounded.

use std::io::{self, Read};

use airlock_policy::limit::{MAX_EMPTY_FRAMES, MAX_ZSTD_WINDOW_LOG};
use airlock_policy::rule::Rule;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use crate::blob::Blob;
use crate::fault::Fault;

const FRAME: u32 = 0xfd2f_b528;

/// Whether these are the first bytes of a frame of either sort.
pub(crate) fn is_magic(bytes: [u8; 4]) -> bool {
    let magic = u32::from_le_bytes(bytes);
    magic == FRAME || is_skippable(magic)
}

fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == 0x184d_2a50
}

/// The state of a zstd stream.
pub(crate) struct Zstd {
    decoder: Decoder<'static>,
    in_frame: bool,
    frame_bytes: u64,
    empty_frames: u32,
}

impl Zstd {
    pub(crate) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        // The frame's own header is checked before; this holds even if that were wrong.
        decoder.set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG))?;
        Ok(Self { decoder, in_frame: false, frame_bytes: 0, empty_frames: 0 })
    }

    /// See [`Decoder::read`](crate::decompress::Decoder::read).
    pub(crate) fn read<R: Read>(
        &mut self,
        blob: &mut Blob<R>,
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        loop {
            if !self.in_frame && !self.begin(blob)? {
                return Ok(0);
            }
            let ahead = blob.peek(1)?;
            let ends_here = ahead.is_empty();
            let mut input = InBuffer::around(ahead);
            let mut output = OutBuffer::around(&mut *out);
            let left = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|_damaged| Rule::ArchiveCompressed)?;
            let (taken, given) = (input.pos(), output.pos());
            blob.consume(taken);
            self.frame_bytes = self.frame_bytes.saturating_add(given as u64);
            if left == 0 {
                self.in_frame = false;
                if self.frame_bytes == 0 {
                    self.count_empty_frame()?;
                }
            } else if given == 0 && (ends_here || taken == 0) {
                return Err(Rule::ArchiveCompressed.into());
            }
            if given > 0 {
                return Ok(given);
            }
        }
    }

    /// Looks at the header of the next frame and skips those to be skipped. False means that
    /// there is none: the blob is over.
    fn begin<R: Read>(&mut self, blob: &mut Blob<R>) -> Result<bool, Fault> {
        loop {
            // The longest header: magic, descriptor, window, dictionary, size.
            let ahead = blob.peek(4 + 1 + 1 + 4 + 8)?;
            if ahead.is_empty() {
                return Ok(false);
            }
            let (magic, header) = ahead.split_first_chunk().ok_or(Rule::ArchiveTrailing)?;
            match u32::from_le_bytes(*magic) {
                FRAME => {
                    let window = window_of(header).ok_or(Rule::ArchiveCompressed)?;
                    if window > 1 << MAX_ZSTD_WINDOW_LOG {
                        return Err(Rule::LimitWindow.into());
                    }
                    self.decoder.reinit().map_err(Fault::Read)?;
                    self.in_frame = true;
                    self.frame_bytes = 0;
                    return Ok(true);
                }
                magic if is_skippable(magic) => {
                    blob.take::<4>()?;
                    let length = u32::from_le_bytes(blob.take()?);
                    blob.skip(length)?;
                    self.count_empty_frame()?;
                }
                _ => return Err(Rule::ArchiveTrailing.into()),
            }
        }
    }

    fn count_empty_frame(&mut self) -> Result<(), Fault> {
        self.empty_frames = self.empty_frames.saturating_add(1);
        if self.empty_frames > MAX_EMPTY_FRAMES {
            return Err(Rule::LimitFrames.into());
        }
        Ok(())
    }
}

/// The window that a frame asks for, in bytes, by its header after the magic number (RFC 8878,
/// 3.1.1.1). `None` if the header is cut off, uses a reserved bit or needs a dictionary.
fn window_of(header: &[u8]) -> Option<u64> {
    let (descriptor, rest) = header.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 || descriptor & 0x03 != 0 {
        return None;
    }
    if !is_single_segment {
        let window = *rest.first()?;
        let base = 1_u64.checked_shl(u32::from(window >> 3).checked_add(10)?)?;
        return (base / 8).checked_mul(u64::from(window & 7))?.checked_add(base);
    }
    match descriptor >> 6 {
        0 => rest.first().map(|size| u64::from(*size)),
        1 => {
            rest.first_chunk().map(|size| u64::from(u16::from_le_bytes(*size)).saturating_add(256))
        }
        2 => rest.first_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
        _ => rest.first_chunk().map(|size| u64::from_le_bytes(*size)),
    }
}
