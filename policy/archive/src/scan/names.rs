//! Where the names of a layer lead, link by link, as they will in the volume: so what only a volume
//! seems to tell is refused before there is one.
//!
//! A first layer lies on nothing, so all that its names can lead to has gone by. What is kept is a
//! keyed hash a name: an attacker who does not know the key cannot make two names meet.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use airlock_policy::entry::path::EntryPath;
use airlock_policy::entry::wrapped::WRAPPER;
use airlock_policy::entry::{Entry, Kind};
use airlock_policy::limit::MAX_COMPONENT;
use airlock_policy::rule::Rule;

/// How many names are kept, parents that no entry is for among them: the table has 2^21 places, of
/// 17 bytes each.
const NAMES: usize = 1_800_000;
/// How many bytes of targets are kept.
const TARGETS: usize = 16 << 20;
/// How many links the kernel follows on one way (`path_resolution(7)`).
const LINKS: u32 = 40;
/// How many components are followed in all: some five for each entry of an honest layer.
const STEPS: u32 = 50_000_000;

/// What the names so far stand for.
pub(super) struct Names {
    key: RandomState,
    /// By the hash of a name and the directory that it is in.
    things: HashMap<u64, Thing>,
    /// The directory that each is in; the root is in itself. Directories are numbered.
    above: Vec<u32>,
    root: u32,
    targets: Vec<Box<[u8]>>,
    target_bytes: usize,
    /// The parent of the last entry, whose neighbours mostly follow it.
    last: Option<(EntryPath, u32)>,
    leant_on_root: Cell<bool>,
    /// How many components may still be followed.
    steps: Cell<u32>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Thing {
    Directory(u32),
    /// By the number of its target.
    Symlink(u32),
    Other,
}

/// Why a way leads to no directory.
enum Astray {
    /// There is nothing of a name on it.
    Missing,
    /// Something else stands there, or links lead in a circle.
    Blocked,
    /// It is too long a way to follow.
    Lost,
}

/// Why a name is not taken in.
pub(super) enum Untaken {
    Refused(Rule),
    /// There is more to keep or to follow than an honest layer has: the worker decides alone.
    Lost,
}

impl From<Rule> for Untaken {
    fn from(rule: Rule) -> Self {
        Self::Refused(rule)
    }
}

impl From<Astray> for Untaken {
    fn from(astray: Astray) -> Self {
        match astray {
            Astray::Missing | Astray::Blocked => Self::Refused(Rule::LinkParent),
            Astray::Lost => Self::Lost,
        }
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            key: RandomState::new(),
            things: HashMap::new(),
            above: vec![0],
            root: 0,
            targets: Vec::new(),
            target_bytes: 0,
            last: None,
            leant_on_root: Cell::new(false),
            steps: Cell::new(STEPS),
        }
    }

    /// Takes in an entry as the worker will.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Untaken> {
        let Some(name) = entry.path.file_name() else { return Ok(()) };
        let thing = match &entry.kind {
            // What they hide lies below, and there is nothing below.
            Kind::Whiteout { .. } | Kind::OpaqueDirectory { .. } => return Ok(()),
            Kind::Directory => {
                let parent = self.parent(&entry.path)?;
                if !matches!(self.at(parent, name), Some(Thing::Directory(_))) {
                    self.make(parent, name)?;
                }
                return Ok(());
            }
            Kind::Hardlink { target } => return self.link(&entry.path, name, target),
            Kind::Symlink { target } => {
                let number = number(self.targets.len());
                self.target_bytes = self.target_bytes.saturating_add(target.len());
                if self.target_bytes > TARGETS {
                    return Err(Untaken::Lost);
                }
                self.targets.push(target.clone());
                Thing::Symlink(number)
            }
            Kind::File { .. } | Kind::Fifo => Thing::Other,
        };
        let parent = self.parent(&entry.path)?;
        self.put(parent, name, thing)
    }

    /// Whether it mattered which directory is the root.
    pub(super) fn leant_on_root(&self) -> bool {
        self.leant_on_root.get()
    }

    /// The same with the root so far as a directory in the root; `None` where a link that was
    /// followed would have led elsewhere.
    pub(super) fn wrapped(mut self) -> Option<Self> {
        let (inner, outer) = (self.root, number(self.above.len()));
        self.above.push(outer);
        *self.above.get_mut(index(inner))? = outer;
        (self.root, self.last) = (outer, None);
        self.put(outer, WRAPPER.as_bytes(), Thing::Directory(inner)).ok()?;
        (!self.leant_on_root()).then_some(self)
    }

    fn link(&mut self, path: &EntryPath, name: &[u8], target: &EntryPath) -> Result<(), Untaken> {
        let from = match self.walk(target.parent().as_bytes()) {
            Ok(from) => from,
            Err(Astray::Missing | Astray::Blocked) => return Err(Rule::LinkMissing.into()),
            Err(Astray::Lost) => return Err(Untaken::Lost),
        };
        let linked = match target.file_name().and_then(|name| self.at(from, name)) {
            None | Some(Thing::Directory(_)) => return Err(Rule::LinkMissing.into()),
            Some(linked) => linked,
        };
        let parent = self.parent(path)?;
        // What is in the way goes first, with all that is in it.
        if let Some(Thing::Directory(gone)) = self.at(parent, name)
            && self.is_in(from, gone)
        {
            return Err(Rule::LinkMissing.into());
        }
        self.put(parent, name, linked)
    }

    /// Whether a directory is another one or lies in it.
    fn is_in(&self, directory: u32, other: u32) -> bool {
        let mut here = directory;
        while here != other {
            let above = self.above.get(index(here)).copied();
            match above {
                Some(above) if above != here && self.may_step() => here = above,
                Some(_) | None => return false,
            }
        }
        true
    }

    /// The directory that an entry is in. Those that are missing are made.
    fn parent(&mut self, path: &EntryPath) -> Result<u32, Untaken> {
        let path = path.parent();
        if let Some((last, number)) = &self.last
            && *last == path
        {
            return Ok(*number);
        }
        let found = match self.walk(path.as_bytes()) {
            Err(Astray::Missing) => self.make_all(&path)?,
            found => found?,
        };
        self.last = Some((path, found));
        Ok(found)
    }

    fn make_all(&mut self, path: &EntryPath) -> Result<u32, Untaken> {
        let mut tops: Vec<&[u8]> = path.ancestors().collect();
        tops.reverse();
        tops.push(path.as_bytes());
        let mut parent = self.root;
        for top in tops {
            let name = top.rsplit(|byte| *byte == b'/').next().unwrap_or(top);
            parent = match self.walk(top) {
                // Not a link that leads nowhere: making its target would be a guess.
                Err(Astray::Missing) if self.at(parent, name).is_none() => {
                    self.make(parent, name)?
                }
                found => found?,
            };
        }
        Ok(parent)
    }

    /// Follows a way from the root, as openat2(2) does with `RESOLVE_IN_ROOT`.
    fn walk(&self, path: &[u8]) -> Result<u32, Astray> {
        let (mut here, mut links) = (self.root, 0_u32);
        let mut ahead: Vec<&[u8]> = components(path).collect();
        while let Some(name) = ahead.pop() {
            if !self.may_step() {
                return Err(Astray::Lost);
            }
            here = match (name, self.at(here, name)) {
                (b".", _) => here,
                (b"..", _) => {
                    self.lean(here == self.root);
                    self.above.get(index(here)).copied().unwrap_or(self.root)
                }
                (name, _) if name.len() > MAX_COMPONENT => return Err(Astray::Blocked),
                (_, None) => return Err(Astray::Missing),
                (_, Some(Thing::Directory(below))) => below,
                (_, Some(Thing::Symlink(number))) if links < LINKS => {
                    links = links.saturating_add(1);
                    let target = self.targets.get(index(number)).ok_or(Astray::Missing)?;
                    ahead.extend(components(target));
                    let is_absolute = target.starts_with(b"/");
                    self.lean(is_absolute);
                    if is_absolute { self.root } else { here }
                }
                (_, Some(Thing::Symlink(_) | Thing::Other)) => return Err(Astray::Blocked),
            };
        }
        Ok(here)
    }

    fn lean(&self, leans: bool) {
        self.leant_on_root.set(self.leant_on_root.get() || leans);
    }

    fn may_step(&self) -> bool {
        let left = self.steps.get().checked_sub(1);
        self.steps.set(left.unwrap_or_default());
        left.is_some()
    }

    fn at(&self, directory: u32, name: &[u8]) -> Option<Thing> {
        self.things.get(&self.hash(directory, name)).copied()
    }

    fn make(&mut self, parent: u32, name: &[u8]) -> Result<u32, Untaken> {
        let made = number(self.above.len());
        self.above.push(parent);
        self.put(parent, name, Thing::Directory(made))?;
        Ok(made)
    }

    fn put(&mut self, directory: u32, name: &[u8], thing: Thing) -> Result<(), Untaken> {
        if self.things.len() >= NAMES {
            return Err(Untaken::Lost);
        }
        if self.things.insert(self.hash(directory, name), thing).is_some() {
            // Ways may lead elsewhere now.
            self.last = None;
        }
        Ok(())
    }

    fn hash(&self, directory: u32, name: &[u8]) -> u64 {
        self.key.hash_one((directory, name))
    }
}

/// The components of a way, from the last to the first.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// There are never more than [`NAMES`] of anything, so a `u32` holds each number.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
