//! The volume being written: every name in it is looked up from a descriptor, inside the root.
//!
//! A parent is resolved by `openat2` with `RESOLVE_IN_ROOT` (TREE-2): links in the image, absolute
//! ones too, lead where they would lead in the running image, and never out of it. The last
//! component is never followed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use airlock_archive::Stop;
use airlock_policy::entry::Time;
use airlock_policy::entry::path::EntryPath;
use airlock_policy::errand::Stage;
use airlock_policy::rule::Rule;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec};
use rustix::io::Errno;

use crate::ledger::Ledger;
use crate::{metadata, remove};

/// Writing into the volume failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct WriteFault {
    pub(crate) what: &'static str,
    #[source]
    pub(crate) source: io::Error,
}

impl WriteFault {
    pub(crate) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or_default()
    }

    pub(crate) fn stage(&self) -> Stage {
        match Errno::from_io_error(&self.source) {
            _ if self.what == MANIFEST => Stage::TreeWrite,
            Some(Errno::NOSPC | Errno::DQUOT) => Stage::VolumeFull,
            _ if self.what == FLUSH => Stage::Flush,
            _ => Stage::Write,
        }
    }
}

/// What a step on the way of an entry ends with.
pub(crate) type Step<T> = Result<T, Stop<WriteFault>>;

/// What is being done when the volume is flushed.
pub(crate) const FLUSH: &str = "flush the volume";

/// What is being done when the manifest is written.
pub(crate) const MANIFEST: &str = "write the manifest of the tree";

/// Says what was attempted when the kernel said no.
pub(crate) fn at(what: &'static str) -> impl Fn(Errno) -> WriteFault {
    move |errno| WriteFault { what, source: errno.into() }
}

/// The same, as what ends an entry.
pub(crate) fn stop(what: &'static str) -> impl Fn(Errno) -> Stop<WriteFault> {
    move |errno| Stop::Failed(at(what)(errno))
}

/// A directory of the volume, open.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) inode: u64,
    /// Whether it hands an access control list down to what is made in it.
    pub(crate) hands_down: bool,
    /// Whether it hands its group down, by its setgid bit.
    pub(crate) hands_group: bool,
}

/// Where an entry goes: an open directory and a name in it.
#[derive(Debug)]
pub(crate) struct Place<'e> {
    pub(crate) parent: Rc<Directory>,
    pub(crate) name: &'e [u8],
}

/// The volume.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) root: Rc<Directory>,
    /// The parent of the last entry, whose neighbours mostly follow it; after a directory that was just
    /// made, that one. A descriptor, so it leads to the directory that was resolved; the path no longer
    /// might, once a link or a directory was removed, so it is forgotten then.
    last: Option<(EntryPath, Rc<Directory>)>,
    pub(crate) ledger: Ledger,
}

/// How a directory is opened: to be listed, to have attributes, to be flushed.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Volume {
    /// Opens the volume whose root a mount is.
    pub(crate) fn open(mount: OwnedFd) -> Result<Self, WriteFault> {
        let open = at("open the volume's root");
        let fd = rustix::fs::openat(&mount, c".", DIRECTORY, Mode::empty()).map_err(&open)?;
        drop(mount);
        let something_below = remove::has_something(&fd).map_err(&open)?;
        let mut ledger = Ledger::new(something_below);
        let root = Rc::new(Directory::new(fd, &mut ledger).map_err(&open)?);
        Ok(Self { root, last: None, ledger })
    }

    /// The place of an entry. Parents that are missing are made, root's and open to all.
    pub(crate) fn place<'e>(&mut self, path: &'e EntryPath, time: Time) -> Step<Place<'e>> {
        // `judge` lets no entry but a directory be the root, and that one needs no place.
        let name = path.file_name().ok_or(Stop::Refuse(Rule::NameRoot))?;
        let parent = path.parent();
        if let Some((known, directory)) = &self.last
            && *known == parent
        {
            return Ok(Place { parent: Rc::clone(directory), name });
        }
        let directory = match self.resolve(parent.as_bytes()) {
            Err(Errno::NOENT) => self.make_all(&parent, time)?,
            other => other.map_err(no_parent)?,
        };
        self.last = Some((parent, Rc::clone(&directory)));
        Ok(Place { parent: directory, name })
    }

    /// The place of what a whiteout or a hard link names; `None` if its parent is not there.
    pub(crate) fn existing_place<'e>(&mut self, path: &'e EntryPath) -> Step<Option<Place<'e>>> {
        let name = path.file_name().ok_or(Stop::Refuse(Rule::NameRoot))?;
        match self.resolve(path.parent().as_bytes()) {
            Ok(parent) => Ok(Some(Place { parent, name })),
            Err(errno) if leads_nowhere(errno) => Ok(None),
            Err(errno) => Err(stop("open a directory")(errno)),
        }
    }

    /// Opens a directory by its path inside the root, following links among all components.
    pub(crate) fn resolve(&mut self, path: &[u8]) -> Result<Rc<Directory>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open_in_root(self.root.fd.as_fd(), path, flags)?;
        Ok(Rc::new(Directory::new(fd, &mut self.ledger)?))
    }

    /// Makes the directories of a path that are not there.
    fn make_all(&mut self, path: &EntryPath, time: Time) -> Step<Rc<Directory>> {
        let mut tops: Vec<&[u8]> = path.ancestors().collect();
        tops.reverse();
        tops.push(path.as_bytes());
        let mut parent = Rc::clone(&self.root);
        for top in tops {
            parent = match self.resolve(top) {
                Err(Errno::NOENT) => {
                    let name = top.rsplit(|byte| *byte == b'/').next().unwrap_or(top);
                    self.make_parent(&parent, name, time)?
                }
                other => other.map_err(no_parent)?,
            };
        }
        Ok(parent)
    }

    fn make_parent(&mut self, above: &Directory, name: &[u8], time: Time) -> Step<Rc<Directory>> {
        match rustix::fs::mkdirat(&above.fd, name, Mode::from_raw_mode(0o755)) {
            // A link that leads nowhere: making its target would be a guess.
            Err(Errno::EXIST) => return Err(Stop::Refuse(Rule::LinkParent)),
            other => other.map_err(stop("make a parent directory"))?,
        }
        let open = stop("open a parent directory");
        let fd = rustix::fs::openat(&above.fd, name, DIRECTORY, Mode::empty()).map_err(&open)?;
        metadata::as_if_alone(&fd, above).map_err(Stop::Failed)?;
        let made = Directory::new(fd, &mut self.ledger).map_err(open)?;
        self.ledger.set_time(made.inode, timespec(time));
        self.ledger.note_written(above.inode, name);
        Ok(Rc::new(made))
    }

    /// Makes something where `place` says. Whatever is there is removed, never written into.
    pub(crate) fn make<T>(
        &mut self,
        place: &Place<'_>,
        what: &'static str,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Step<T> {
        let result = match make(place.parent.fd.as_fd(), place.name) {
            Err(Errno::EXIST) => {
                self.remove(place, remove::Whose::Anybodys)?;
                make(place.parent.fd.as_fd(), place.name)
            }
            other => other,
        };
        let outcome = result.map_err(stop(what))?;
        self.ledger.note_written(place.parent.inode, place.name);
        Ok(outcome)
    }

    /// Removes what is at a place, and all that is in it.
    pub(crate) fn remove(&mut self, place: &Place<'_>, whose: remove::Whose) -> Step<()> {
        self.forget_last();
        remove::remove(&place.parent, place.name, whose, &mut self.ledger)
    }

    /// To be called when the root's attributes may have changed, and so what it hands down.
    pub(crate) fn look_at_root_again(&mut self) -> Step<()> {
        let open = stop("open the volume's root");
        let fd =
            rustix::fs::openat(&self.root.fd, c".", DIRECTORY, Mode::empty()).map_err(&open)?;
        self.root = Rc::new(Directory::new(fd, &mut self.ledger).map_err(open)?);
        Ok(())
    }

    /// Notes a directory that was just made in the last parent: what is in it mostly follows it. Where
    /// something made way for it, its path may lead elsewhere by now, and the last parent is forgotten.
    pub(crate) fn remember(&mut self, path: &EntryPath, directory: Rc<Directory>) {
        if let Some(last) = &mut self.last {
            *last = (path.clone(), directory);
        }
    }

    /// To be called when the path of the last parent may lead elsewhere than it did, or when its
    /// attributes may have changed.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }
}

impl Directory {
    /// Takes an open directory, and has its time kept.
    pub(crate) fn new(fd: OwnedFd, ledger: &mut Ledger) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        ledger.keep_time(stat.st_ino, modified(&stat));
        let hands_down = metadata::hands_down(fd.as_fd())?;
        let hands_group = stat.st_mode & Mode::SGID.as_raw_mode() != 0;
        Ok(Self { fd, inode: stat.st_ino, hands_down, hands_group })
    }
}

/// What stands where a directory should be is none, or a link in a circle, to nowhere, to a name that
/// no file can have, or one that nobody follows (`proc_sys_fs(5)`, `protected_symlinks`).
pub(crate) fn leads_nowhere(errno: Errno) -> bool {
    use Errno as E;
    matches!(errno, E::NOENT | E::NOTDIR | E::LOOP | E::NAMETOOLONG | E::ACCESS)
}

fn no_parent(errno: Errno) -> Stop<WriteFault> {
    if leads_nowhere(errno) {
        return Stop::Refuse(Rule::LinkParent);
    }
    stop("open a parent directory")(errno)
}

/// Opens a path inside the root `root`: no link leads out of it, no other filesystem is entered.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    /// The kernel gives up on `..` while anything in the system is renamed or mounted.
    const TRIES: u32 = 1000;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut last = Errno::AGAIN;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => last = Errno::AGAIN,
            other => return other,
        }
    }
    Err(last)
}

/// What is at a place, a link not followed; `None` if nothing is.
pub(crate) fn look(place: &Place<'_>) -> Step<Option<(FileType, Stat)>> {
    match rustix::fs::statat(&place.parent.fd, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(stop("look at what is there")(errno)),
    }
}

/// A time as the kernel takes it.
pub(crate) fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}

fn modified(stat: &Stat) -> Timespec {
    let tv_nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Timespec { tv_sec: stat.st_mtime, tv_nsec }
}
