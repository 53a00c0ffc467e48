//! Root filesystems that were packed with the directory around them: every entry lies under
//! `rootfs/`, and is unpacked as though that were the root (R-302, TREE-6).

use super::{Entry, Kind, path::EntryPath};
use crate::rule::Rule;

/// The directory.
pub const WRAPPER: &str = "rootfs";

impl Entry {
    /// The entry as it is inside the wrapper; `None` for the directory that the wrapper lies in,
    /// which is no part of the image. What names anything outside is refused.
    ///
    /// Controller and worker both call this: an archive that the one takes for wrapped and the
    /// other does not is refused.
    pub fn unwrapped(&self) -> Result<Option<Self>, Rule> {
        if self.path.is_root() {
            return Ok(None);
        }
        let inside = |path: &EntryPath| path.below(WRAPPER.as_bytes()).ok_or(Rule::NameOutside);
        let thing = |path: &EntryPath| match inside(path)? {
            path if path.is_root() => Err(Rule::NameOutside),
            path => Ok(path),
        };
        let (path, kind) = match &self.kind {
            Kind::Directory => (inside(&self.path)?, Kind::Directory),
            Kind::OpaqueDirectory { target } => {
                (thing(&self.path)?, Kind::OpaqueDirectory { target: inside(target)? })
            }
            Kind::Whiteout { target } => {
                (thing(&self.path)?, Kind::Whiteout { target: thing(target)? })
            }
            Kind::Hardlink { target } => {
                (thing(&self.path)?, Kind::Hardlink { target: thing(target)? })
            }
            // A symbolic link is stored as it stands: it means what it means in the running image.
            kind @ (Kind::File { .. } | Kind::Symlink { .. } | Kind::Fifo) => {
                (thing(&self.path)?, kind.clone())
            }
        };
        Ok(Some(Self { path, kind, ..self.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claim, verdict};
    use super::*;
    use crate::entry::ClaimedKind;

    fn unwrapped(name: &str, kind: ClaimedKind<'_>) -> Result<Option<(String, Kind)>, Rule> {
        let entry = verdict(claim(name, kind))?.unwrapped()?;
        Ok(entry.map(|entry| (entry.path.to_string(), entry.kind)))
    }

    fn path(name: &str) -> EntryPath {
        EntryPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn what_lies_in_the_wrapper_lies_in_the_root() {
        use ClaimedKind::{Directory, File, Hardlink, Symlink};
        let is = |name: &str, kind| Ok(Some((name.to_owned(), kind)));
        assert_eq!(unwrapped("./", Directory), Ok(None));
        assert_eq!(unwrapped("rootfs", Directory), is("/", Kind::Directory));
        assert_eq!(unwrapped("./rootfs/etc/", Directory), is("etc", Kind::Directory));
        let file = Kind::File { size: 0, sparse: None };
        assert_eq!(unwrapped("rootfs//rootfs/x", File), is("rootfs/x", file));
        let target = b"/rootfs/x"[..].into();
        assert_eq!(unwrapped("rootfs/s", Symlink(b"/rootfs/x")), is("s", Kind::Symlink { target }));
        let link = Kind::Hardlink { target: path("bin/a") };
        assert_eq!(unwrapped("rootfs/l", Hardlink(b"./rootfs/bin/a")), is("l", link));
        let gone = Kind::Whiteout { target: path("x") };
        assert_eq!(unwrapped("rootfs/.wh.x", File), is(".wh.x", gone));
        let opaque = Kind::OpaqueDirectory { target: EntryPath::default() };
        assert_eq!(unwrapped("rootfs/.wh..wh..opq", File), is(".wh..wh..opq", opaque));
    }

    #[test]
    fn nothing_outside_the_wrapper_is_named_and_the_wrapper_is_a_directory() {
        use ClaimedKind::{CharacterDevice, Directory, Fifo, File, Hardlink, Symlink};
        for (name, kind) in [
            ("rootfs", File),
            ("rootfs", Fifo),
            ("rootfs", Symlink(b"etc")),
            ("rootfs", Hardlink(b"rootfs/x")),
            ("rootfs", CharacterDevice { is_zero: true }),
            (".wh.rootfs", File),
            (".wh..wh..opq", File),
            ("rootfsx/y", File),
            ("Rootfs/y", File),
            ("etc", Directory),
            ("rootfs/l", Hardlink(b"etc/passwd")),
            ("rootfs/l", Hardlink(b"rootfs")),
        ] {
            assert_eq!(unwrapped(name, kind), Err(Rule::NameOutside), "{name} {kind:?}");
        }
    }
}
