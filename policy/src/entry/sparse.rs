//! The map of a sparse file: where its data lies, the rest being holes.

use crate::limit::MAX_SPARSE_REGIONS;
use crate::rule::Rule;

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// The regions of a sparse file: ascending, apart from each other, none empty, none beyond the
/// file's end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SparseMap(Box<[Region]>);

impl SparseMap {
    /// Checks the map of a file of `size` bytes. Empty regions, which only mark the end of a
    /// file, are held to the same order and then dropped.
    pub fn new(size: u64, mut regions: Vec<Region>) -> Result<Self, Rule> {
        if regions.len() > MAX_SPARSE_REGIONS {
            return Err(Rule::LimitSparse);
        }
        let mut end = 0;
        for region in &regions {
            if region.offset < end {
                return Err(Rule::LimitSparse);
            }
            end = region.offset.checked_add(region.length).ok_or(Rule::LimitSparse)?;
        }
        if end > size {
            return Err(Rule::LimitSparse);
        }
        regions.retain(|region| region.length > 0);
        Ok(Self(regions.into()))
    }

    /// The regions, in ascending order.
    pub fn regions(&self) -> &[Region] {
        &self.0
    }

    /// How many bytes of data the file has.
    pub fn data_bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, region| region.length.saturating_add(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(size: u64, regions: &[(u64, u64)]) -> Result<u64, Rule> {
        let regions = regions.iter().map(|&(offset, length)| Region { offset, length }).collect();
        SparseMap::new(size, regions).map(|map| map.data_bytes())
    }

    #[test]
    fn a_map_that_overlaps_descends_overflows_or_leaves_the_file_is_refused() {
        for (size, regions) in [
            (100, &[(0, 10), (5, 10)][..]),
            (100, &[(50, 10), (0, 10)]),
            (100, &[(95, 6)]),
            (100, &[(101, 0)]),
            (u64::MAX, &[(u64::MAX, 2)]),
        ] {
            assert_eq!(map(size, regions), Err(Rule::LimitSparse), "{regions:?}");
        }
        assert_eq!(map(u64::MAX, &vec![(0, 0); MAX_SPARSE_REGIONS + 1]), Err(Rule::LimitSparse));
    }

    #[test]
    fn touching_regions_and_an_empty_one_at_the_end_are_legal() {
        assert_eq!(map(100, &[(0, 10), (10, 10), (100, 0)]), Ok(20));
        assert_eq!(map(0, &[]), Ok(0));
    }
}
