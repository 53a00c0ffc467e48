//! The walk over a whole volume, which makes its tree digest.
//!
//! It looks at what lies in the volume and never at what an archive said of it. The contents that
//! are known are not read; verifying is the same walk, with nothing known.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use airlock_policy::digest::{Digest, TreeDigest};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::content::{ContentHash, Contents, NOTHING, Raw};
use crate::manifest::{Entry, Kind, Record};
use crate::remove;
use crate::volume::DIRECTORY;

/// Is shown each step of a walk.
pub(crate) trait Visit {
    /// What ends a walk early.
    type End: From<Errno>;

    /// A name or the way back, and the path that the walk is at.
    fn record(&mut self, path: &[u8], record: &Record) -> Result<(), Self::End>;

    /// Bytes of a file that were read.
    fn read(&mut self, _bytes: u64) -> Result<(), Self::End> {
        Ok(())
    }

    /// A directory, before what is in it.
    fn enter(&mut self, _directory: &Stat) {}

    /// A directory, after what is in it.
    fn leave(&mut self, _fd: &OwnedFd, _directory: &Stat) -> Result<(), Errno> {
        Ok(())
    }
}

/// How a file is opened to be read: it was a file when it was looked at, and nobody changes it.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// The longest list or value of extended attributes, in bytes (`XATTR_SIZE_MAX`).
const ATTRIBUTES: usize = 64 << 10;
/// How much of a file is read at a time, in bytes.
const PIECE: usize = 64 << 10;

/// Walks over the whole tree below `root`, and returns its digest.
///
/// Each level holds a descriptor open, so a tree deeper than the worker's limit on them ends the
/// walk; no honest image is that deep.
pub(crate) fn walk<V: Visit>(
    root: &OwnedFd,
    mut contents: Contents,
    visit: &mut V,
) -> Result<TreeDigest, V::End> {
    contents.sort();
    let hash = Sha256::new();
    let buffers = (vec![0; ATTRIBUTES], vec![0; ATTRIBUTES], vec![0; PIECE]);
    let mut walk = Walk {
        visit,
        contents,
        links: HashMap::new(),
        count: 0,
        hash,
        path: Vec::new(),
        inside: None,
        buffers,
    };
    let stat = rustix::fs::fstat(root)?;
    walk.show(&stat, (b"", Node::Open(root.as_fd())), NOTHING)?;
    walk.directory(root, &stat)?;
    Ok(TreeDigest(Digest::from_bytes(walk.hash.finalize().into())))
}

struct Walk<'v, V> {
    visit: &'v mut V,
    contents: Contents,
    /// Of inodes with several names: the number of the entry with the first, and the content.
    links: HashMap<u64, (u64, Raw)>,
    count: u64,
    hash: Sha256,
    path: Vec<u8>,
    /// The inode number of the directory that the process is in.
    inside: Option<u64>,
    /// A list of attributes, a value of one, a piece of a file.
    buffers: (Vec<u8>, Vec<u8>, Vec<u8>),
}

/// What attributes are asked of: what is open, or a name in the directory that the process is in.
#[derive(Clone, Copy)]
enum Node<'n> {
    Open(BorrowedFd<'n>),
    Named(&'n [u8]),
}

impl<V: Visit> Walk<'_, V> {
    fn directory(&mut self, fd: &OwnedFd, stat: &Stat) -> Result<(), V::End> {
        self.visit.enter(stat);
        let mut names = remove::names(fd.as_fd())?;
        names.sort_unstable();
        for name in names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.name(fd, stat.st_ino, name.as_bytes())?;
            self.path.truncate(length);
        }
        self.visit.leave(fd, stat)?;
        self.take(&Record::Up)
    }

    fn name(&mut self, parent: &OwnedFd, inside: u64, name: &[u8]) -> Result<(), V::End> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
                self.show(&stat, (name, Node::Open(below.as_fd())), NOTHING)?;
                return self.directory(&below, &stat);
            }
            FileType::RegularFile => self.content(parent, name, &stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                *Digest::of(target.as_bytes()).as_bytes()
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => NOTHING,
        };
        // Attributes of what cannot be opened are asked for by name, and such a name is looked up
        // where the process is.
        if self.inside != Some(inside) {
            rustix::process::fchdir(parent)?;
            self.inside = Some(inside);
        }
        self.show(&stat, (name, Node::Named(name)), content)
    }

    fn show(
        &mut self,
        stat: &Stat,
        (name, node): (&[u8], Node<'_>),
        content: Raw,
    ) -> Result<(), V::End> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            // No worker makes one.
            FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(Errno::INVAL.into()),
        };
        let mut first = self.count;
        if kind != Kind::Directory && stat.st_nlink > 1 {
            first = self.links.entry(stat.st_ino).or_insert((first, content)).0;
        }
        self.count = self.count.saturating_add(1);
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let record = Record::Entry(Entry {
            kind,
            name: name.to_vec(),
            mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(u16::MAX),
            owner: (stat.st_uid, stat.st_gid),
            size,
            first,
            content,
            xattrs: self.attributes(node)?,
            inode: stat.st_ino,
        });
        self.take(&record)
    }

    fn take(&mut self, record: &Record) -> Result<(), V::End> {
        self.hash.update(record.encode().0);
        self.visit.record(&self.path, record)
    }

    fn content(&mut self, parent: &OwnedFd, name: &[u8], stat: &Stat) -> Result<Raw, V::End> {
        if stat.st_size == 0 {
            return Ok(NOTHING);
        }
        let known = self.links.get(&stat.st_ino).map(|(_, content)| *content);
        if let Some(known) = known.or_else(|| self.contents.of(stat.st_ino)) {
            return Ok(known);
        }
        let mut file = File::from(rustix::fs::openat(parent, name, READ, Mode::empty())?);
        let mut hash = ContentHash::new();
        let mut position = 0;
        // Holes are not read: a file may be all hole.
        while let Some(data) = next_data(&file, position)? {
            rustix::fs::seek(&file, SeekFrom::Start(data.start))?;
            position = self.region(&mut file, data, &mut hash)?;
        }
        Ok(hash.finish())
    }

    /// Reads from where a file is to the end of a region, and says where that was.
    fn region(
        &mut self,
        file: &mut File,
        data: Range<u64>,
        hash: &mut ContentHash,
    ) -> Result<u64, V::End> {
        let mut position = data.start;
        while position < data.end {
            let piece = &mut self.buffers.2;
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&*file, &mut piece[..]))?;
            if count == 0 {
                // The file ends before it should: the size tells.
                return Ok(u64::MAX);
            }
            hash.add(position, piece.get(..count).unwrap_or_default());
            position = position.saturating_add(count as u64);
            self.visit.read(count as u64)?;
        }
        Ok(position)
    }

    /// The digest of all attributes that are the image's, by name.
    fn attributes(&mut self, node: Node<'_>) -> Result<Raw, Errno> {
        let (list, value, _) = &mut self.buffers;
        let length = match node.list(list) {
            Err(Errno::OPNOTSUPP) | Ok(0) => return Ok(NOTHING),
            other => other?,
        };
        let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        let mut names: Vec<&[u8]> = names.filter(|name| is_of_the_image(name)).collect();
        if names.is_empty() {
            return Ok(NOTHING);
        }
        names.sort_unstable();
        let mut hash = Sha256::new();
        for name in names {
            let length = node.get(name, value)?;
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((length as u64).to_le_bytes());
            hash.update(value.get(..length).unwrap_or_default());
        }
        Ok(hash.finalize().into())
    }
}

/// The next region of a file that is no hole, from a position on.
fn next_data(file: &File, position: u64) -> Result<Option<Range<u64>>, Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        // Behind the last.
        Err(Errno::NXIO | Errno::INVAL) => Ok(None),
        start => {
            let start = start?;
            Ok(Some(start..rustix::fs::seek(file, SeekFrom::Hole(start))?))
        }
    }
}

impl Node<'_> {
    fn list(self, list: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, list),
            Self::Named(name) => rustix::fs::llistxattr(name, list),
        }
    }

    fn get(self, attribute: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, attribute, value),
            Self::Named(name) => rustix::fs::lgetxattr(name, attribute, value),
        }
    }
}

/// Labels of security modules are the host's policy: an image has none (`entry::xattr`).
fn is_of_the_image(name: &[u8]) -> bool {
    !name.is_empty() && (!name.starts_with(b"security.") || name == b"security.capability")
}
