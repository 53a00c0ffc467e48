//! The last pass over the volume: times of directories, facts of the layout, flush.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};

use airlock_policy::layout::{DIRECTORIES, LayoutFacts, PROTECTED};
use rustix::fs::{Dir, FileType, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use crate::ledger::Ledger;
use crate::volume::{DIRECTORY, FLUSH, Volume, WriteFault, at, open_in_root};

/// The write permission of everybody, and the bit that makes it harmless.
const WRITABLE_AND_STICKY: u32 = 0o1002;
const WRITABLE: u32 = 0o0002;

impl Volume {
    /// Finishes a layer that was written whole. When this returns, all of it is on the device.
    pub(crate) fn finish(self) -> Result<LayoutFacts, WriteFault> {
        let Self { root, ledger, .. } = self;
        let root = &root.fd;
        let mut pass = Pass { ledger, protected: HashSet::new(), facts: LayoutFacts::default() };
        pass.look_at_top(root).map_err(at("look at the top of the tree"))?;
        pass.directory(root, false).map_err(at("set the times of directories"))?;
        rustix::fs::syncfs(root).map_err(at(FLUSH))?;
        Ok(pass.facts)
    }
}

struct Pass {
    ledger: Ledger,
    /// The inode numbers of the protected directories, wherever links lead to them.
    protected: HashSet<u64>,
    facts: LayoutFacts,
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

    /// Goes through a directory and all below it.
    ///
    /// Each level holds a descriptor open, so a tree deeper than the worker's limit on them ends
    /// the extraction; no honest image is that deep.
    fn directory(&mut self, fd: &OwnedFd, is_protected: bool) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(fd)?;
        let is_protected = is_protected || self.protected.contains(&stat.st_ino);
        if is_protected && stat.st_mode & WRITABLE_AND_STICKY == WRITABLE {
            self.facts.writable_directories = self.facts.writable_directories.saturating_add(1);
        }
        for entry in Dir::read_from(fd.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() == FileType::Directory && !matches!(name.to_bytes(), b"." | b"..")
            {
                let below = rustix::fs::openat(fd, name, DIRECTORY, Mode::empty())?;
                self.directory(&below, is_protected)?;
            }
        }
        if let Some(time) = self.ledger.take_time(stat.st_ino) {
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
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
