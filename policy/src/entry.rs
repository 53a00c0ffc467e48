//! The verdict on one archive entry: what an archive claims of it becomes an [`Entry`] or breaks
//! a [`Rule`] (TREE-4).

pub mod acl;
pub mod path;
pub mod sparse;
pub mod wrapped;
pub mod xattr;

use crate::limit::{ArchiveLimits, MAX_LINK_TARGET, MAX_OWNER, Setuid, TIME_RANGE};
use crate::rule::Rule;

use acl::Acl;
use path::EntryPath;
use sparse::SparseMap;
use xattr::{Attributes, Xattr};

/// A time since 1970, as an archive gives it and a volume keeps it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after them, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an archive says of one member, decoded but not yet judged.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The whole name, as bytes.
    pub name: &'a [u8],
    /// What the member says it is.
    pub kind: ClaimedKind<'a>,
    /// The bytes of its content, holes included.
    pub size: u64,
    /// The map of a sparse file.
    pub sparse: Option<SparseMap>,
    /// The mode field; only the bits 07777 mean anything.
    pub mode: i64,
    /// The user id.
    pub uid: i64,
    /// The group id.
    pub gid: i64,
    /// The time of the last modification.
    pub mtime: Time,
    /// Extended attributes: names as the kernel would have them, values as bytes.
    pub xattrs: Vec<Xattr>,
    /// The text of `SCHILY.acl.access`.
    pub acl_access: Option<&'a [u8]>,
    /// The text of `SCHILY.acl.default`.
    pub acl_default: Option<&'a [u8]>,
}

/// What a member says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimedKind<'a> {
    /// A regular file; a directory if its name ends in a slash, as v7 archives write them.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// A hard link to the member of this name.
    Hardlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A character device. Only 0/0, overlayfs's whiteout, is let through.
    CharacterDevice {
        /// Whether major and minor number were both given, and both zero.
        is_zero: bool,
    },
    /// A block device.
    BlockDevice,
}

/// A member of an archive that broke no rule. Made by [`judge`] alone.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Which member of the archive it is, counted from 0, extension headers not counted.
    pub index: u64,
    /// Its name, relative to the root of the image.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 07777, after the policy on setuid and setgid.
    pub mode: u32,
    /// The user id, at most [`MAX_OWNER`].
    pub uid: u32,
    /// The group id, at most [`MAX_OWNER`].
    pub gid: u32,
    /// The time of the last modification.
    pub mtime: Time,
    /// Extended attributes to be set, access control lists aside.
    pub xattrs: Vec<Xattr>,
    /// Access control lists to be set: at most one for access and one default.
    pub acls: Vec<Acl>,
    /// How many attributes were left out because they mean nothing in a volume
    /// (see [`xattr`]).
    pub left_out: u32,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its size in bytes, holes included.
        size: u64,
        /// Where its data lies; `None` if it has no holes.
        sparse: Option<SparseMap>,
    },
    /// A directory. The root is the directory whose path is empty.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target, to be stored as it stands and never followed.
        target: Box<[u8]>,
    },
    /// A hard link.
    Hardlink {
        /// The path that it names, never the root and never its own.
        target: EntryPath,
    },
    /// A named pipe.
    Fifo,
    /// A whiteout: what lower layers have of this path is to be removed.
    Whiteout {
        /// The path to be removed, never the root.
        target: EntryPath,
    },
    /// A mark that a directory hides whatever lower layers have in it.
    OpaqueDirectory {
        /// The directory, possibly the root.
        target: EntryPath,
    },
}

/// Judges what an archive claims of member number `index`.
pub fn judge(index: u64, claim: Claim<'_>, limits: &ArchiveLimits) -> Result<Entry, Rule> {
    let Claim { name, kind, size, sparse, mode, uid, gid, mtime, xattrs, acl_access, acl_default } =
        claim;
    let path = EntryPath::parse(name)?;
    let has_slash = name.ends_with(b"/");
    let kind = if kind == ClaimedKind::File && has_slash { ClaimedKind::Directory } else { kind };
    if kind != ClaimedKind::Directory {
        if path.is_root() {
            return Err(Rule::NameRoot);
        }
        if has_slash {
            return Err(Rule::NameSlash);
        }
    }
    if kind != ClaimedKind::File && size != 0 {
        // Readers disagree on whether such a member has content, and so on where the next begins.
        return Err(Rule::ArchiveSize);
    }
    let kind = kind_of(kind, &path, size, sparse, limits)?;
    if !TIME_RANGE.contains(&mtime.seconds) || mtime.nanoseconds > 999_999_999 {
        return Err(Rule::TimeRange);
    }
    let mode = mode_of(mode, &kind, limits.setuid)?;
    let (uid, gid) = (owner(uid)?, owner(gid)?);
    let Attributes { xattrs, acls, left_out } =
        xattr::judge(xattrs, acl_access, acl_default, &kind)?;
    Ok(Entry { index, path, kind, mode, uid, gid, mtime, xattrs, acls, left_out })
}

fn kind_of(
    kind: ClaimedKind<'_>,
    path: &EntryPath,
    size: u64,
    sparse: Option<SparseMap>,
    limits: &ArchiveLimits,
) -> Result<Kind, Rule> {
    let is_device =
        matches!(kind, ClaimedKind::BlockDevice | ClaimedKind::CharacterDevice { is_zero: false });
    if is_device {
        // Before the name is looked at: no name makes a device a whiteout.
        return Err(Rule::KindDevice);
    }
    if size > limits.file_bytes {
        return Err(Rule::LimitFile);
    }
    match (kind, whiteout(path)?) {
        (ClaimedKind::BlockDevice, _) => Err(Rule::KindDevice),
        (ClaimedKind::CharacterDevice { .. }, None) => Ok(Kind::Whiteout { target: path.clone() }),
        (ClaimedKind::CharacterDevice { .. }, Some(_)) => Err(Rule::WhiteoutName),
        (_, Some(mark)) => Ok(mark),
        (ClaimedKind::File, None) => Ok(Kind::File { size, sparse }),
        (ClaimedKind::Directory, None) => Ok(Kind::Directory),
        (ClaimedKind::Fifo, None) => Ok(Kind::Fifo),
        (ClaimedKind::Symlink(target), None) => symlink(target),
        (ClaimedKind::Hardlink(target), None) => hardlink(target, path),
    }
}

fn symlink(target: &[u8]) -> Result<Kind, Rule> {
    if target.is_empty() || target.len() > MAX_LINK_TARGET || target.contains(&0) {
        return Err(Rule::LinkTarget);
    }
    Ok(Kind::Symlink { target: target.into() })
}

fn hardlink(target: &[u8], path: &EntryPath) -> Result<Kind, Rule> {
    if target.is_empty() || target.ends_with(b"/") {
        return Err(Rule::LinkTarget);
    }
    let target = EntryPath::parse(target)?;
    if target.is_root() || whiteout(&target)?.is_some() {
        return Err(Rule::LinkTarget);
    }
    if target == *path {
        return Err(Rule::LinkSelf);
    }
    Ok(Kind::Hardlink { target })
}

/// What `.wh.` at the start of the last component makes of an entry, whatever its type
/// (OCI image spec, layer.md, "Whiteouts").
fn whiteout(path: &EntryPath) -> Result<Option<Kind>, Rule> {
    const PREFIX: &[u8] = b".wh.";
    const OPAQUE: &[u8] = b".wh..wh..opq";
    let parent = path.parent();
    if parent.components().any(|component| component.starts_with(PREFIX)) {
        // A directory of such a name can never exist in an image.
        return Err(Rule::WhiteoutName);
    }
    let Some(name) = path.file_name() else { return Ok(None) };
    if name == OPAQUE {
        return Ok(Some(Kind::OpaqueDirectory { target: parent }));
    }
    let Some(removed) = name.strip_prefix(PREFIX) else { return Ok(None) };
    match parent.join(removed) {
        Ok(target) => Ok(Some(Kind::Whiteout { target })),
        Err(_not_a_component) => Err(Rule::WhiteoutName),
    }
}

/// The permission bits of `mode`, which archives write with or without a file type above them.
fn mode_of(mode: i64, kind: &Kind, setuid: Setuid) -> Result<u32, Rule> {
    let mode = u32::try_from(mode & 0o7777).map_err(|_negative| Rule::ArchiveNumber)?;
    match kind {
        // On a directory the bits only hand a group down. On the rest they are not stored.
        Kind::Directory
        | Kind::Symlink { .. }
        | Kind::Whiteout { .. }
        | Kind::OpaqueDirectory { .. } => Ok(mode),
        Kind::File { .. } | Kind::Hardlink { .. } | Kind::Fifo => match setuid {
            Setuid::Strip => Ok(mode & 0o1777),
            Setuid::Reject if mode & 0o6000 != 0 => Err(Rule::ModeSetuid),
            Setuid::Keep | Setuid::Reject => Ok(mode),
        },
    }
}

fn owner(id: i64) -> Result<u32, Rule> {
    u32::try_from(id).ok().filter(|id| *id <= MAX_OWNER).ok_or(Rule::OwnerRange)
}

#[cfg(test)]
mod tests;
