//! The digest of a file's content, taken as the content passes by.
//!
//! Blocks of zeros count by their place only: so a hole and the zeros that it reads as are the
//! same, and a large hole costs nothing.

use sha2::{Digest as _, Sha256};

/// What zeros are looked for in, in bytes. A multiple of what SHA-256 takes at a time.
const BLOCK: usize = 512;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A content digest, or what stands where there is no content.
pub(crate) type Raw = [u8; 32];
/// No content: a directory, a pipe, an empty file; no attributes.
pub(crate) const NOTHING: Raw = [0; 32];

/// Takes the pieces of one file, in order.
#[derive(Debug)]
pub(crate) struct ContentHash {
    /// Over all blocks that hold something.
    data: Sha256,
    /// Over start and end of each run of such blocks.
    runs: Sha256,
    run: (u64, u64),
    /// The begun block, and where it starts.
    block: Vec<u8>,
    start: u64,
}

impl ContentHash {
    pub(crate) fn new() -> Self {
        Self { data: Sha256::new(), runs: Sha256::new(), run: (0, 0), block: Vec::new(), start: 0 }
    }

    /// Takes bytes that lie at `offset`; between them and those before lie zeros.
    pub(crate) fn add(&mut self, offset: u64, bytes: &[u8]) {
        self.skip_to(offset);
        let missing =
            if self.block.is_empty() { 0 } else { BLOCK.saturating_sub(self.block.len()) };
        let (head, bytes) = bytes.split_at(missing.min(bytes.len()));
        self.block.extend_from_slice(head);
        if self.block.len() == BLOCK {
            self.end_block();
        }
        let whole = bytes.len().saturating_sub(bytes.len().checked_rem(BLOCK).unwrap_or(0));
        let (whole, tail) = bytes.split_at(whole);
        self.blocks(whole);
        self.block.extend_from_slice(tail);
    }

    /// The digest of all that was taken.
    pub(crate) fn finish(mut self) -> Raw {
        self.end_block();
        self.end_run();
        self.data.update(self.runs.finalize());
        self.data.finalize().into()
    }

    fn skip_to(&mut self, offset: u64) {
        let within = offset.saturating_sub(self.start);
        if within >= BLOCK as u64 && !self.block.is_empty() {
            self.end_block();
        }
        let rest = offset.checked_rem(BLOCK as u64).unwrap_or(0);
        if self.block.is_empty() {
            self.start = offset.saturating_sub(rest);
        }
        self.block.resize(usize::try_from(rest).unwrap_or(0), 0);
    }

    fn end_block(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK, 0);
        self.blocks(&block);
        // Its room is used again.
        block.clear();
        self.block = block;
    }

    /// Takes whole blocks.
    fn blocks(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let zeros = length_of(bytes, |block| block == ZEROS);
            self.start = self.start.saturating_add(zeros as u64);
            bytes = bytes.get(zeros..).unwrap_or_default();
            let data = length_of(bytes, |block| block != ZEROS);
            let (run, rest) = bytes.split_at(data);
            self.take(run);
            bytes = rest;
        }
    }

    /// Takes whole blocks that hold something.
    fn take(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.run.1 != self.start {
            self.end_run();
            self.run.0 = self.start;
        }
        self.data.update(data);
        self.start = self.start.saturating_add(data.len() as u64);
        self.run.1 = self.start;
    }

    fn end_run(&mut self) {
        let (start, end) = self.run;
        if end > start {
            self.runs.update(start.to_le_bytes());
            self.runs.update(end.to_le_bytes());
        }
    }
}

/// How many bytes the blocks at the beginning take of which this is true.
fn length_of(bytes: &[u8], is: impl Fn(&[u8]) -> bool) -> usize {
    bytes.chunks(BLOCK).take_while(|block| is(block)).count().saturating_mul(BLOCK)
}

/// What files hold, by inode number: a snapshot's inodes are its origin's.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// As they were written. A number that was used again is here twice: the last counts.
    written: Vec<(u64, Raw)>,
    /// Of the volume below.
    below: Vec<(u64, Raw)>,
}

impl Contents {
    /// What is known of the volume below.
    pub(crate) fn on_top_of(mut below: Vec<(u64, Raw)>) -> Self {
        below.sort_unstable_by_key(|(inode, _)| *inode);
        Self { written: Vec::new(), below }
    }

    pub(crate) fn note(&mut self, inode: u64, content: Raw) {
        self.written.push((inode, content));
    }

    /// To be called before the first is looked up.
    pub(crate) fn sort(&mut self) {
        self.written.sort_by_key(|(inode, _)| *inode);
    }

    pub(crate) fn of(&self, inode: u64) -> Option<Raw> {
        last_of(&self.written, inode).or_else(|| last_of(&self.below, inode))
    }
}

fn last_of(sorted: &[(u64, Raw)], inode: u64) -> Option<Raw> {
    let end = sorted.partition_point(|(known, _)| *known <= inode);
    let (known, content) = sorted.get(end.checked_sub(1)?)?;
    (*known == inode).then_some(*content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Raw {
        let mut hash = ContentHash::new();
        hash.add(0, bytes);
        hash.finish()
    }

    /// A file with data, zeros that were written and zeros to the end, of this many bytes.
    fn file(length: usize) -> Vec<u8> {
        let byte = |at: usize| match at {
            700..=3000 | 5000..=5100 => 0,
            at => u8::try_from(at % 251).unwrap(),
        };
        (0..length).map(byte).collect()
    }

    /// The digest of the same file that comes in pieces, but for those that are all zeros.
    fn pieces(bytes: &[u8], length: usize) -> Raw {
        let mut hash = ContentHash::new();
        let parts = bytes.chunks(length).enumerate();
        for (number, part) in parts.filter(|(_, part)| part.iter().any(|byte| *byte != 0)) {
            hash.add(number.saturating_mul(length) as u64, part);
        }
        hash.finish()
    }

    #[test]
    fn how_the_content_came_in_pieces_does_not_matter() {
        for length in [1, 511, 512, 513, 3000, 4096, 5050, 9000] {
            let bytes = file(length);
            for piece in [1, 7, 511, 512, 513, 4096] {
                assert_eq!(pieces(&bytes, piece), whole(&bytes), "{length} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn every_byte_and_its_place_count() {
        let bytes = file(6000);
        let same = whole(&bytes);
        for at in [0, 1, 600, 1000, 2047, 5999] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(whole(&other), same, "{at}");
        }
        let mut moved = ContentHash::new();
        moved.add(512, &bytes);
        assert_ne!(moved.finish(), same);
        let at = |offset| {
            let mut hash = ContentHash::new();
            hash.add(offset, &[1; BLOCK]);
            hash.add(1 << 20, &[1; BLOCK]);
            hash.finish()
        };
        assert_ne!(at(0), at(BLOCK as u64));
    }

    #[test]
    fn an_inode_number_that_was_used_again_stands_for_the_last_file() {
        let mut contents = Contents::on_top_of(vec![(9, [9; 32]), (3, [3; 32]), (5, [5; 32])]);
        for (inode, content) in [(5, 1), (7, 2), (5, 3)] {
            contents.note(inode, [content; 32]);
        }
        contents.sort();
        let of = |inode| contents.of(inode).map(|raw| raw[0]);
        assert_eq!((of(3), of(5), of(7), of(9)), (Some(3), Some(3), Some(2), Some(9)));
        assert_eq!((of(0), of(4), of(10)), (None, None, None));
    }
}
