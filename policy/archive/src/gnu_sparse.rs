//! GNU tar's sparse files: the map in the header (old GNU), in pax records (0.0, 0.1) or in front
//! of the data (1.0).

use airlock_policy::entry::sparse::{Region, SparseMap};
use airlock_policy::limit::MAX_SPARSE_REGIONS;
use airlock_policy::rule::Rule;

use crate::fault::Fault;
use crate::number::{self, decimal};
use crate::stream::{BLOCK, Stream};

/// What the `GNU.sparse.*` records of a member say.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    version: (Option<u64>, Option<u64>),
    size: Option<u64>,
    count: Option<u64>,
    name: Option<Vec<u8>>,
    map: Option<Vec<Region>>,
    listed: Vec<Region>,
    offset: Option<u64>,
}

/// Where a member's map is to be found.
pub(crate) enum Layout {
    /// It is no sparse file.
    Whole,
    /// The map was in the records.
    Known {
        /// The size of the file, holes included.
        size: u64,
        map: SparseMap,
    },
    /// The map is in front of the data.
    InData { size: u64 },
}

impl PaxSparse {
    /// Takes a record; `key` is what follows `GNU.sparse.`.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Rule> {
        let number = || decimal(value).ok_or(Rule::ArchiveNumber);
        match key {
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"size" | b"realsize" => {
                let size = number()?;
                if self.size.replace(size).is_some_and(|other| other != size) {
                    return Err(Rule::ArchiveSize);
                }
            }
            b"numblocks" => self.count = Some(number()?),
            b"name" if value.is_empty() => return Err(Rule::ArchivePax),
            b"name" => self.name = Some(value.to_vec()),
            b"map" => self.map = Some(parse_map(value)?),
            b"offset" => {
                if self.offset.replace(number()?).is_some() {
                    return Err(Rule::LimitSparse);
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Rule::LimitSparse)?;
                self.listed.push(Region { offset, length: number()? });
            }
            _ => return Err(Rule::ArchivePax),
        }
        Ok(())
    }

    /// The real name of a sparse file: the one outside is made up for readers without a notion
    /// of sparse files.
    pub(crate) fn take_name(&mut self) -> Option<Vec<u8>> {
        self.name.take()
    }

    /// Puts the records together. Those that no version of the format has are refused.
    pub(crate) fn layout(self) -> Result<Layout, Rule> {
        let Self { version, size, count, name: _, map, listed, offset } = self;
        let is_listed = !listed.is_empty();
        if offset.is_some() || (is_listed && map.is_some()) {
            return Err(Rule::LimitSparse);
        }
        let Some(size) = size else {
            let says_nothing =
                version == (None, None) && count.is_none() && map.is_none() && !is_listed;
            return if says_nothing { Ok(Layout::Whole) } else { Err(Rule::LimitSparse) };
        };
        match version {
            (Some(1), Some(0)) if map.is_none() && !is_listed && count.is_none() => {
                Ok(Layout::InData { size })
            }
            (None, None) | (Some(0), Some(0 | 1)) => {
                let regions = map.unwrap_or(listed);
                if count != u64::try_from(regions.len()).ok() {
                    return Err(Rule::LimitSparse);
                }
                Ok(Layout::Known { size, map: SparseMap::new(size, regions)? })
            }
            _ => Err(Rule::LimitSparse),
        }
    }
}

/// The map of version 0.1: `offset,length,offset,length`.
fn parse_map(text: &[u8]) -> Result<Vec<Region>, Rule> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(decimal).collect();
    let numbers = numbers.ok_or(Rule::LimitSparse)?;
    let (pairs, []) = numbers.as_chunks() else { return Err(Rule::LimitSparse) };
    Ok(pairs.iter().map(|&[offset, length]| Region { offset, length }).collect())
}

/// Reads the map of an old GNU header and of the blocks that continue it: the file's size with
/// holes, and the map.
pub(crate) fn read_old(
    header: &tar::GnuHeader,
    stream: &mut Stream<'_>,
) -> Result<(u64, SparseMap), Fault> {
    let size = number::parse(&header.realsize)?.and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or(Rule::ArchiveNumber)?;
    let mut regions = Vec::new();
    let mut is_full = add_old(&header.sparse, &mut regions)?;
    let mut goes_on = header.isextended != [0];
    while goes_on {
        // Readers differ on whether a list that has ended may go on.
        if !is_full || regions.len() > MAX_SPARSE_REGIONS {
            return Err(Rule::LimitSparse.into());
        }
        let mut block = tar::GnuExtSparseHeader::new();
        *block.as_mut_bytes() = stream.whole_block()?;
        is_full = add_old(block.sparse(), &mut regions)?;
        goes_on = block.isextended != [0];
    }
    Ok((size, SparseMap::new(size, regions)?))
}

/// Adds the regions of one block; false if the list ends in it.
fn add_old(slots: &[tar::GnuSparseHeader], regions: &mut Vec<Region>) -> Result<bool, Rule> {
    for slot in slots {
        let field = |field| number::parse(field)?.map(u64::try_from).transpose().map_err(negative);
        if slot.numbytes.starts_with(&[0]) {
            return Ok(false);
        }
        match (field(&slot.offset)?, field(&slot.numbytes)?) {
            (Some(offset), Some(length)) => regions.push(Region { offset, length }),
            _ => return Err(Rule::ArchiveNumber),
        }
    }
    Ok(true)
}

fn negative(_: std::num::TryFromIntError) -> Rule {
    Rule::ArchiveNumber
}

/// Reads the map in front of the data (version 1.0): a count, then offset and length of each
/// region, a decimal number a line, filled up to whole blocks. Says how many bytes it took.
pub(crate) fn read_in_data(
    size: u64,
    stored: u64,
    stream: &mut Stream<'_>,
) -> Result<(SparseMap, u64), Fault> {
    let mut lines = Lines { stream, stored, taken: 0, block: [0; BLOCK], position: BLOCK };
    let count = lines.number()?;
    if count > MAX_SPARSE_REGIONS as u64 {
        return Err(Rule::LimitSparse.into());
    }
    let mut regions = Vec::new();
    for _ in 0..count {
        regions.push(Region { offset: lines.number()?, length: lines.number()? });
    }
    let taken = lines.taken;
    Ok((SparseMap::new(size, regions)?, taken))
}

/// The lines of a map in front of the data.
struct Lines<'s, 'l> {
    stream: &'s mut Stream<'l>,
    stored: u64,
    taken: u64,
    block: [u8; BLOCK],
    position: usize,
}

impl Lines<'_, '_> {
    fn number(&mut self) -> Result<u64, Fault> {
        let mut digits = Vec::new();
        // A number has at most 20 digits.
        while digits.len() <= 20 {
            match self.byte()? {
                b'\n' => return Ok(decimal(&digits).ok_or(Rule::LimitSparse)?),
                digit => digits.push(digit),
            }
        }
        Err(Rule::LimitSparse.into())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        if self.position >= BLOCK {
            self.taken = self.taken.saturating_add(BLOCK as u64);
            if self.taken > self.stored {
                return Err(Rule::LimitSparse.into());
            }
            self.block = self.stream.whole_block()?;
            self.position = 0;
        }
        let byte = self.block.get(self.position).copied().unwrap_or_default();
        self.position = self.position.saturating_add(1);
        Ok(byte)
    }
}

#[cfg(test)]
mod tests;
