//! A walk that keeps nothing but figures: what the controller does before the helper is asked.

mod names;

use std::convert::Infallible;
use std::io::Read;

use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::ArchiveLimits;

use self::names::{Names, Untaken};
use crate::content::Content;
use crate::fault::{LayerFault, Refusal, Stop};
use crate::walk::{Summary, Visitor, read_layer};

/// Where a layer lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Position {
    /// It is a root filesystem all by itself.
    Alone,
    /// It is the lowest of several: it has nothing below it.
    Lowest,
    /// It lies on others, and its names may lead to what is there.
    Upper,
}

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
    /// Whether it is a root filesystem that is to be unwrapped: every entry lies in the one
    /// directory `rootfs`. Only a layer that lies [alone](Position::Alone) is.
    pub is_wrapped: bool,
}

/// Reads a layer to its very end, checks all that can be checked without a filesystem, and keeps
/// figures only.
///
/// A layer with nothing below it names in its links and parents only what it holds itself
/// ([`Rule::LinkMissing`](airlock_policy::rule::Rule::LinkMissing),
/// [`Rule::LinkParent`](airlock_policy::rule::Rule::LinkParent)), so that is checked here, as long as
/// it has no more names than an honest layer. In an upper layer the worker finds it out.
pub fn scan<R: Read>(
    blob: R,
    limits: &ArchiveLimits,
    position: Position,
) -> Result<Scan, LayerFault<Infallible>> {
    let mut scanner = Scanner {
        names: (position != Position::Upper).then(Names::new),
        may_be_wrapped: position == Position::Alone,
        in_wrapper: false,
        if_wrapped: None,
        pool_bytes: 0,
        inodes: 0,
        has_whiteouts: false,
    };
    let summary = read_layer(blob, limits, &mut scanner)?;
    let Scanner {
        may_be_wrapped, in_wrapper, if_wrapped, pool_bytes, inodes, has_whiteouts, ..
    } = scanner;
    let is_wrapped = may_be_wrapped && in_wrapper;
    match if_wrapped {
        Some(refusal) if is_wrapped => Err(LayerFault::Refused(refusal)),
        Some(_) | None => Ok(Scan { summary, pool_bytes, inodes, has_whiteouts, is_wrapped }),
    }
}

/// The size of a filesystem block of a volume, in bytes.
const FILESYSTEM_BLOCK: u64 = 4096;
/// The longest symbolic link that ext4 keeps inside the inode, in bytes.
const INLINE_LINK: usize = 59;

struct Scanner {
    /// `None` where the worker finds out what names lead to.
    names: Option<Names>,
    /// Whether every entry so far lies in a wrapper, as far as there was one.
    may_be_wrapped: bool,
    in_wrapper: bool,
    /// What is refused if all that is still to come lies in the wrapper too.
    if_wrapped: Option<Refusal>,
    pool_bytes: u64,
    inodes: u64,
    has_whiteouts: bool,
}

impl Visitor for Scanner {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, _: &mut Content<'_>) -> Result<(), Stop<Infallible>> {
        self.count_space(entry);
        if self.may_be_wrapped {
            match entry.unwrapped() {
                Ok(Some(inside)) => {
                    self.in_wrapper = true;
                    return self.name(&inside, entry);
                }
                Ok(None) => return Ok(()),
                Err(_outside) => self.find_unwrapped(),
            }
        }
        self.name(entry, entry)
    }
}

impl Scanner {
    /// Takes in an entry as it will be in the volume.
    fn name(&mut self, entry: &Entry, said: &Entry) -> Result<(), Stop<Infallible>> {
        let Some(names) = &mut self.names else { return Ok(()) };
        match names.add(entry) {
            Ok(()) => return Ok(()),
            Err(Untaken::Refused(rule)) if self.may_be_wrapped && names.leant_on_root() => {
                let (entry, name) = (Some(said.index), said.path.as_bytes().into());
                self.if_wrapped = Some(Refusal { rule, entry, name });
            }
            Err(Untaken::Refused(rule)) => return Err(Stop::Refuse(rule)),
            Err(Untaken::Lost) => {}
        }
        self.names = None;
        Ok(())
    }

    /// An entry lies outside: what was taken for the root is a directory in it.
    fn find_unwrapped(&mut self) {
        self.may_be_wrapped = false;
        if self.in_wrapper {
            self.names = self.names.take().and_then(Names::wrapped);
        }
    }

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

#[cfg(test)]
mod tests;
