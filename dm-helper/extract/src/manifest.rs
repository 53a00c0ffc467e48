//! A volume's manifest: all that is in it, in the order of its names, as a file.
//!
//! The tree's digest is the SHA-256 of all records without their inode numbers. Whoever wrote the
//! file may have been taken over by an image: so it is believed only if it has the digest that the
//! ledger knows, and it is read record by record, with no length that one byte cannot hold.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use airlock_policy::digest::{Digest, TreeDigest};
use airlock_policy::tree::Difference;
use sha2::{Digest as _, Sha256};

use crate::content::Raw;

/// One name in the tree, and what is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The last component; the root's is empty.
    pub(crate) name: Vec<u8>,
    /// The permission bits (07777).
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    /// Of a file; of others 0.
    pub(crate) size: u64,
    /// The number, counted from 0, of the entry that has the first name of the same inode.
    pub(crate) first: u64,
    /// Of a file; of a symbolic link its target's.
    pub(crate) content: Raw,
    pub(crate) xattrs: Raw,
    /// For the volume above only: no part of the digest.
    pub(crate) inode: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    Fifo,
}

/// One step of a walk: a name, or the way back out of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Record {
    Entry(Entry),
    Up,
}

const UP: u8 = b'.';

impl Kind {
    const ALL: [(Self, u8); 4] =
        [(Self::Directory, b'd'), (Self::File, b'f'), (Self::Symlink, b'l'), (Self::Fifo, b'p')];

    fn letter(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, letter)| *letter)
    }
}

impl Record {
    /// The record's bytes: those that the digest covers, and the inode number behind them.
    pub(crate) fn encode(&self) -> (Vec<u8>, [u8; 8]) {
        let Self::Entry(entry) = self else { return (vec![UP], [0; 8]) };
        let Entry { kind, name, mode, owner: (uid, gid), size, first, content, xattrs, inode } =
            entry;
        // No name is longer than 255 bytes: ext4 has no room for one.
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![kind.letter(), length];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&mode.to_le_bytes());
        bytes.extend([uid, gid].iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend([size, first].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([content, xattrs].iter().flat_map(|digest| digest.iter()));
        (bytes, inode.to_le_bytes())
    }

    /// Reads the next record; `None` at the end of the file.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let [letter] = bytes(from)?;
        if letter == UP {
            return Ok(Some(Self::Up));
        }
        let kind = Kind::ALL.iter().find(|(_, known)| *known == letter).map(|(kind, _)| *kind);
        let kind = kind.ok_or(io::ErrorKind::InvalidData)?;
        let [length] = bytes(from)?;
        let mut name = vec![0; usize::from(length)];
        from.read_exact(&mut name)?;
        Ok(Some(Self::Entry(Entry {
            kind,
            name,
            mode: u16::from_le_bytes(bytes(from)?),
            owner: (u32::from_le_bytes(bytes(from)?), u32::from_le_bytes(bytes(from)?)),
            size: u64::from_le_bytes(bytes(from)?),
            first: u64::from_le_bytes(bytes(from)?),
            content: bytes(from)?,
            xattrs: bytes(from)?,
            inode: u64::from_le_bytes(bytes(from)?),
        })))
    }
}

fn bytes<const N: usize>(from: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Entry {
    /// How an entry of the same name differs from what it was; `None` if it does not.
    pub(crate) fn difference(&self, was: &Self) -> Option<Difference> {
        let cases = [
            (self.kind != was.kind, Difference::Kind),
            (self.mode != was.mode, Difference::Mode),
            (self.owner != was.owner, Difference::Owner),
            (self.size != was.size, Difference::Size),
            (self.content != was.content, Difference::Content),
            (self.xattrs != was.xattrs, Difference::Xattrs),
            (self.first != was.first, Difference::Links),
        ];
        cases.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

/// Reads a manifest through, and says what its files hold, by inode number. `None` if it does not
/// have this digest: then nothing in it is believed.
pub(crate) fn contents(file: &File, tree: TreeDigest) -> io::Result<Option<Vec<(u64, Raw)>>> {
    let mut reader = BufReader::new(file);
    let (mut hash, mut contents) = (Sha256::new(), Vec::new());
    while let Some(record) = Record::read(&mut reader)? {
        hash.update(record.encode().0);
        if let Record::Entry(Entry { kind: Kind::File, inode, content, size: 1.., .. }) = record {
            contents.push((inode, content));
        }
    }
    let found = TreeDigest(Digest::from_bytes(hash.finalize().into()));
    Ok((found == tree).then_some(contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            kind: Kind::File,
            name: vec![b'n'; 255],
            mode: 0o4755,
            owner: (1, u32::MAX),
            size: u64::MAX,
            first: 7,
            content: [1; 32],
            xattrs: [2; 32],
            inode: 12,
        }
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let (covered, inode) = record.encode();
        if *record == Record::Up { covered } else { [covered, inode.to_vec()].concat() }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_and_no_part_of_one_does() {
        let root = Entry { kind: Kind::Directory, name: Vec::new(), ..entry() };
        for record in [Record::Entry(entry()), Record::Entry(root), Record::Up] {
            let bytes = encoded(&record);
            assert_eq!(Record::read(&mut &bytes[..]).unwrap(), Some(record));
            for cut in 1..bytes.len() {
                assert!(Record::read(&mut &bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert_eq!(Record::read(&mut &b""[..]).unwrap(), None);
        assert!(Record::read(&mut &b"x\x01n"[..]).is_err());
    }

    #[test]
    fn the_first_field_that_differs_is_named_and_the_inode_is_none() {
        let was = entry();
        assert_eq!(Entry { inode: 1, ..was.clone() }.difference(&was), None);
        for (now, what) in [
            (Entry { kind: Kind::Fifo, ..was.clone() }, Difference::Kind),
            (Entry { mode: 0o755, ..was.clone() }, Difference::Mode),
            (Entry { owner: (1, 0), ..was.clone() }, Difference::Owner),
            (Entry { size: 1, ..was.clone() }, Difference::Size),
            (Entry { content: [3; 32], ..was.clone() }, Difference::Content),
            (Entry { xattrs: [3; 32], ..was.clone() }, Difference::Xattrs),
            (Entry { first: 8, ..was.clone() }, Difference::Links),
        ] {
            assert_eq!(now.difference(&was), Some(what));
            let (covered, other) =
                (Record::Entry(now).encode(), Record::Entry(was.clone()).encode());
            assert_ne!(covered.0, other.0, "{what:?}");
        }
    }
}
