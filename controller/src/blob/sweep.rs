//! Removes unfinished downloads that nobody will finish.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use super::partial::{Partial, PartialId};
use super::{BlobStore, remove_file};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// How many files.
    pub files: u64,
    /// How many bytes of the disk they took.
    pub bytes: u64,
}

impl BlobStore {
    /// Removes every unfinished download but those to keep and those that are being written.
    /// Files of other names are left alone: they are not ours.
    pub fn sweep(&self, keep: &HashSet<PartialId>) -> io::Result<Swept> {
        let mut found = HashSet::new();
        for entry in fs::read_dir(self.partial())? {
            found.extend(entry?.file_name().to_str().and_then(PartialId::of_file));
        }
        let mut swept = Swept::default();
        for id in found.difference(keep) {
            // The lock is held until the files are gone, so that no download starts on them.
            let Some(partial) = Partial::open(self, id)? else { continue };
            for name in ["journal", "data"] {
                let path = self.partial().join(format!("{id}.{name}"));
                let Ok(data) = fs::symlink_metadata(&path) else { continue };
                if remove_file(&path)? {
                    swept.files = swept.files.saturating_add(1);
                    swept.bytes = swept.bytes.saturating_add(data.blocks().saturating_mul(512));
                }
            }
            drop(partial);
        }
        Ok(swept)
    }
}
