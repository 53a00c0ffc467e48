//! Manifests whose volume the ledger does not know: a crash left them, and nobody reads them.

use std::io;

use airlock_policy::errand::TREES;
use airlock_policy::name::ThinId;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::{Ledger, Thing};

impl Ledger {
    /// Removes the manifests of volumes that are gone. Returns how many.
    pub fn remove_orphans(&self, state: impl std::os::fd::AsFd) -> io::Result<u32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(state, TREES, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(0),
            other => other?,
        };
        let mut removed = 0_u32;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // What has another name is not airlock's.
            let Some(thin) = name.to_str().ok().and_then(thin_of) else { continue };
            if !self.is_volume(thin) {
                rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
                removed = removed.saturating_add(1);
            }
        }
        Ok(removed)
    }

    fn is_volume(&self, thin: ThinId) -> bool {
        matches!(self.book().thing(thin), Some(Thing::Volume(_)))
    }
}

fn thin_of(name: &str) -> Option<ThinId> {
    ThinId::try_from(name.parse::<u32>().ok()?).ok()
}
