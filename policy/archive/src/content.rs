//! One file's data on its way to a visitor (TAR-2).

use std::io::{self, Read};

use airlock_policy::entry::sparse::Region;
use airlock_policy::entry::{Entry, Kind};

use crate::fault::{Cut, Fault};
use crate::stream::Feed;

/// The data of one entry: pieces in ascending order, holes between them. Empty for whatever is
/// not a file.
///
/// A visitor may leave it unread, or half read: the rest is skipped, hashed and counted all the
/// same.
pub struct Content<'a> {
    feed: &'a mut dyn Feed,
    fault: &'a mut Option<Fault>,
    size: u64,
    /// What is left of the region that is being read.
    region: Region,
    regions: std::slice::Iter<'a, Region>,
    /// How many bytes of the archive are left of this member.
    left: u64,
    /// How many bytes the last chunk took, to be consumed before the next.
    lent: usize,
    /// How far [`Read`] has come in the file.
    position: u64,
}

/// A piece of a file's data.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'c> {
    /// Where in the file it belongs, in bytes.
    pub offset: u64,
    /// The bytes, at least one.
    pub bytes: &'c [u8],
}

impl<'a> Content<'a> {
    pub(crate) fn new(
        entry: &'a Entry,
        stored: u64,
        feed: &'a mut dyn Feed,
        fault: &'a mut Option<Fault>,
    ) -> Self {
        let (size, region, regions) = match &entry.kind {
            Kind::File { size, sparse: None } => {
                (*size, Region { offset: 0, length: *size }, [].iter())
            }
            Kind::File { size, sparse: Some(map) } => (*size, EMPTY, map.regions().iter()),
            Kind::Directory
            | Kind::Symlink { .. }
            | Kind::Hardlink { .. }
            | Kind::Fifo
            | Kind::Whiteout { .. }
            | Kind::OpaqueDirectory { .. } => (0, EMPTY, [].iter()),
        };
        Self { feed, fault, size, region, regions, left: stored, lent: 0, position: 0 }
    }

    /// The size of the file, in bytes, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece of data; `None` at the end. What lies between the pieces, and between the
    /// last and the [size](Self::size), are holes.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, Cut> {
        self.settle();
        while self.region.length == 0 {
            match self.regions.next() {
                Some(region) => self.region = *region,
                None => return Ok(None),
            }
        }
        let bytes = match self.feed.ahead() {
            Ok(bytes) => bytes,
            Err(fault) => {
                *self.fault = Some(fault);
                return Err(Cut(()));
            }
        };
        let wanted = usize::try_from(self.region.length).unwrap_or(usize::MAX);
        let bytes = bytes.get(..wanted).unwrap_or(bytes);
        let offset = self.region.offset;
        let count = bytes.len() as u64;
        self.lent = bytes.len();
        self.left = self.left.saturating_sub(count);
        self.region.offset = offset.saturating_add(count);
        self.region.length = self.region.length.saturating_sub(count);
        Ok(Some(Chunk { offset, bytes }))
    }

    /// How many bytes of the member were not read.
    pub(crate) fn finish(mut self) -> u64 {
        self.settle();
        self.left
    }

    fn settle(&mut self) {
        self.feed.consume(std::mem::take(&mut self.lent));
    }

    /// Moves to the region in which or before which the position lies, and says where it begins;
    /// `None` behind the last.
    fn next_offset(&mut self) -> Option<u64> {
        while self.region.length == 0 {
            self.region = *self.regions.next()?;
        }
        Some(self.region.offset)
    }
}

/// Reads the file as it will be, holes as zeros.
impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.settle();
        let next = self.next_offset().unwrap_or(self.size);
        let hole = usize::try_from(next.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let count = if hole > 0 {
            let count = hole.min(out.len());
            out.iter_mut().take(count).for_each(|byte| *byte = 0);
            count
        } else {
            let wanted = usize::try_from(self.region.length).unwrap_or(usize::MAX).min(out.len());
            if wanted == 0 {
                return Ok(0);
            }
            let mut bytes = match self.feed.ahead() {
                Ok(bytes) => bytes.get(..wanted).unwrap_or(bytes),
                Err(fault) => {
                    *self.fault = Some(fault);
                    return Err(io::Error::other(Cut(())));
                }
            };
            let count = bytes.read(out)?;
            self.feed.consume(count);
            self.left = self.left.saturating_sub(count as u64);
            self.region.offset = self.region.offset.saturating_add(count as u64);
            self.region.length = self.region.length.saturating_sub(count as u64);
            count
        };
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("size", &self.size)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

const EMPTY: Region = Region { offset: 0, length: 0 };
