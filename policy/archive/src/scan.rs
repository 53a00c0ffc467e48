//! A walk that keeps nothing but figures: what the controller does before the helper is asked.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::io::Read;

use airlock_policy::entry::path::EntryPath;
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::ArchiveLimits;
use airlock_policy::rule::Rule;

use crate::content::Content;
use crate::fault::{LayerFault, Stop};
use crate::walk::{Summary, Visitor, read_layer};

/// What a scan found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scan {
    /// The figures of the layer itself.
    pub summary: Summary,
    /// How much a volume grows at most by the layer, in bytes: data rounded up to filesystem
    /// blocks, and what directories, long links and attributes take. Holes take nothing. What
    /// the filesystem needs for itself is not counted.
    pub pool_bytes: u64,
    /// How many inodes the layer makes at most.
    pub inodes: u64,
    /// Whether the layer holds whiteouts or opaque directories.
    pub has_whiteouts: bool,
    /// Whether every entry but the root lies in the one top-level directory `rootfs`.
    pub is_rootfs_only: bool,
}

/// Reads a layer to its very end, checks all that can be checked without a filesystem, and keeps
/// figures only.
///
/// In the `first` layer of an image, which has nothing below it, a hard link must name an earlier
/// entry ([`Rule::LinkMissing`]). Where symbolic links among the parents leave that open, and in
/// all other layers, the worker decides.
pub fn scan<R: Read>(
    blob: R,
    limits: &ArchiveLimits,
    first: bool,
) -> Result<Scan, LayerFault<Infallible>> {
    let mut scanner = Scanner {
        names: first.then(Names::default),
        pool_bytes: 0,
        inodes: 0,
        has_whiteouts: false,
        in_rootfs: 0,
        elsewhere: 0,
    };
    let summary = read_layer(blob, limits, &mut scanner)?;
    let Scanner { names: _, pool_bytes, inodes, has_whiteouts, in_rootfs, elsewhere } = scanner;
    let is_rootfs_only = in_rootfs > 0 && elsewhere == 0;
    Ok(Scan { summary, pool_bytes, inodes, has_whiteouts, is_rootfs_only })
}

/// The size of a filesystem block of a volume, in bytes.
const FILESYSTEM_BLOCK: u64 = 4096;
/// The longest symbolic link that ext4 keeps inside the inode, in bytes.
const INLINE_LINK: usize = 59;

struct Scanner {
    names: Option<Names>,
    pool_bytes: u64,
    inodes: u64,
    has_whiteouts: bool,
    in_rootfs: u64,
    elsewhere: u64,
}

impl Visitor for Scanner {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, _: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        if let Some(names) = &mut self.names {
            names.add(entry).map_err(Stop::Refuse)?;
        }
        self.count_space(entry);
        match entry.path.components().next() {
            None => {}
            Some(b"rootfs") => self.in_rootfs = self.in_rootfs.saturating_add(1),
            Some(_) => self.elsewhere = self.elsewhere.saturating_add(1),
        }
        Ok(())
    }
}

impl Scanner {
    fn count_space(&mut self, entry: &Entry) {
        let (inodes, blocks) = match &entry.kind {
            Kind::File { size, sparse: None } => (1, size.div_ceil(FILESYSTEM_BLOCK)),
            Kind::File { sparse: Some(map), .. } => {
                let blocks = map.regions().iter().fold(0_u64, |sum, region| {
                    let end = region.offset.saturating_add(region.length);
                    let first = region.offset / FILESYSTEM_BLOCK;
                    sum.saturating_add(end.div_ceil(FILESYSTEM_BLOCK).saturating_sub(first))
                });
                (1, blocks)
            }
            Kind::Directory => (1, 1),
            Kind::Symlink { target } => (1, u64::from(target.len() > INLINE_LINK)),
            Kind::Fifo => (1, 0),
            Kind::Hardlink { .. } => (0, 0),
            Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. } => {
                self.has_whiteouts = true;
                (0, 0)
            }
        };
        let attributes = u64::from(!entry.xattrs.is_empty() || !entry.acls.is_empty());
        let bytes = blocks.saturating_add(attributes).saturating_mul(FILESYSTEM_BLOCK);
        self.inodes = self.inodes.saturating_add(inodes);
        self.pool_bytes = self.pool_bytes.saturating_add(bytes);
    }
}

/// What the names so far stand for, by keyed hashes: an attacker who does not know the key cannot
/// make two names meet, and a million entries take megabytes whatever their names' length.
#[derive(Default)]
struct Names {
    key: RandomState,
    kinds: HashMap<u64, Named>,
    /// Whether an entry lies below a symbolic link: then it has a second name that is not known.
    has_aliases: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Named {
    Directory,
    Symlink,
    Other,
}

impl Names {
    fn add(&mut self, entry: &Entry) -> Result<(), Rule> {
        self.has_aliases |= self.is_below_symlink(&entry.path);
        let named = match &entry.kind {
            Kind::Directory => Named::Directory,
            Kind::Symlink { .. } => Named::Symlink,
            Kind::File { .. } | Kind::Fifo => Named::Other,
            Kind::Hardlink { target } => self.target(target)?,
            Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. } => return Ok(()),
        };
        self.kinds.insert(self.hash(entry.path.as_bytes()), named);
        Ok(())
    }

    fn target(&self, target: &EntryPath) -> Result<Named, Rule> {
        match self.kinds.get(&self.hash(target.as_bytes())) {
            Some(Named::Directory) => Err(Rule::LinkMissing),
            Some(named) => Ok(*named),
            None if self.has_aliases || self.is_below_symlink(target) => Ok(Named::Other),
            None => Err(Rule::LinkMissing),
        }
    }

    fn is_below_symlink(&self, path: &EntryPath) -> bool {
        path.ancestors()
            .any(|ancestor| self.kinds.get(&self.hash(ancestor)) == Some(&Named::Symlink))
    }

    fn hash(&self, name: &[u8]) -> u64 {
        self.key.hash_one(name)
    }
}

#[cfg(test)]
mod tests;
