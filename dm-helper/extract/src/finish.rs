//! The last pass over the volume: times of directories, facts of the layout, flush.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use airlock_policy::digest::TreeDigest;
use airlock_policy::layout::{DIRECTORIES, LayoutFacts, PROTECTED};
use rustix::fs::{OFlags, Stat, Timestamps};
use rustix::io::Errno;

use crate::content::Contents;
use crate::ledger::Ledger;
use crate::manifest::Record;
use crate::threads::Flusher;
use crate::tree::{self, Visit};
use crate::volume::{FLUSH, MANIFEST, Volume, WriteFault, at, leads_nowhere, open_in_root};

/// The write permission of everybody, and the bit that makes it harmless.
const WRITABLE_AND_STICKY: u32 = 0o1002;
const WRITABLE: u32 = 0o0002;

impl Volume {
    /// Finishes a layer that was written whole, and writes the manifest of all that is in the
    /// volume now. When this returns, all of it is on the device, and the manifest on its disk.
    pub(crate) fn finish(
        self,
        (contents, flusher): (Contents, Flusher),
        manifest: File,
    ) -> Result<(LayoutFacts, TreeDigest), WriteFault> {
        let Self { root, ledger, .. } = self;
        let root = &root.fd;
        let mut pass = Pass {
            ledger,
            protected: HashSet::new(),
            depth: 0,
            facts: LayoutFacts::default(),
            manifest: BufWriter::new(manifest),
        };
        pass.look_at_top(root).map_err(at("look at the top of the tree"))?;
        // The device works on the rest of it while the volume is looked through.
        flusher.flush();
        let tree = tree::walk(root, contents, &mut pass)?;
        crash_point!(TreeWritten);
        // An error is told once (syncfs(2)): one that the thread was told of is not told here.
        flusher.end().and_then(|()| rustix::fs::syncfs(root)).map_err(at(FLUSH))?;
        let manifest = pass.manifest.into_inner().map_err(|error| unwritten(error.into_error()))?;
        manifest.sync_all().map_err(unwritten)?;
        crash_point!(TreeFlushed);
        Ok((pass.facts, tree))
    }
}

struct Pass {
    ledger: Ledger,
    /// The inode numbers of the protected directories, wherever links lead to them.
    protected: HashSet<u64>,
    /// How many directories deep the pass is in a protected one, that one counted.
    depth: u32,
    facts: LayoutFacts,
    manifest: BufWriter<File>,
}

fn unwritten(source: io::Error) -> WriteFault {
    WriteFault { what: MANIFEST, source }
}

impl From<Errno> for WriteFault {
    fn from(errno: Errno) -> Self {
        at("look through the volume, and set the times of directories")(errno)
    }
}

impl Pass {
    fn look_at_top(&mut self, root: &OwnedFd) -> Result<(), Errno> {
        let mode = rustix::fs::fstat(root)?.st_mode & 0o7777;
        self.facts.root_mode = u16::try_from(mode).unwrap_or(u16::MAX);
        let mut bit = 1_u8;
        for name in DIRECTORIES {
            if resolved(root, name)?.is_some() {
                self.facts.directories |= bit;
            }
            bit = bit.wrapping_shl(1);
        }
        for name in PROTECTED {
            self.protected.extend(resolved(root, name)?);
        }
        Ok(())
    }
}

impl Visit for Pass {
    type End = WriteFault;

    fn record(&mut self, _path: &[u8], record: &Record) -> Result<(), WriteFault> {
        let (covered, inode) = record.encode();
        self.manifest.write_all(&covered).map_err(unwritten)?;
        match record {
            Record::Entry(_) => self.manifest.write_all(&inode).map_err(unwritten),
            Record::Up => Ok(()),
        }
    }

    fn enter(&mut self, directory: &Stat) {
        if self.depth > 0 || self.protected.contains(&directory.st_ino) {
            self.depth = self.depth.saturating_add(1);
            if directory.st_mode & WRITABLE_AND_STICKY == WRITABLE {
                self.facts.writable_directories = self.facts.writable_directories.saturating_add(1);
            }
        }
    }

    /// Nothing more is made in it: now its time stays.
    fn leave(&mut self, fd: &OwnedFd, directory: &Stat) -> Result<(), Errno> {
        self.depth = self.depth.saturating_sub(1);
        if let Some(time) = self.ledger.take_time(directory.st_ino) {
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(fd, &times)?;
        }
        Ok(())
    }
}

/// The inode number of the directory that a name at the top leads to, inside the root.
fn resolved(root: &OwnedFd, name: &str) -> Result<Option<u64>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open_in_root(root.as_fd(), name.as_bytes(), flags) {
        Ok(directory) => Ok(Some(rustix::fs::fstat(directory)?.st_ino)),
        Err(errno) if leads_nowhere(errno) => Ok(None),
        Err(errno) => Err(errno),
    }
}
