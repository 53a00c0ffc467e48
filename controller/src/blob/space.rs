//! Room on the blobs' disk: looked at before a download, and taken at once.

use std::fs::File;
use std::io;

use airlock_policy::size::ByteSize;
use airlock_policy::source::Place;
use rustix::fs::FallocateFlags;

use super::BlobStore;
use crate::source::SourceFault;

impl BlobStore {
    /// Bytes of the blobs' disk that the daemon's user may still take.
    pub fn free_bytes(&self) -> io::Result<ByteSize> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }

    /// Refuses what would leave less free than the reserve.
    pub(super) fn admit(&self, place: &Place, needed: u64) -> Result<(), SourceFault> {
        let free = self.free_bytes().map_err(|e| self.disk(place, "look at the free space", e))?;
        if needed > 0 && free.0 < needed.saturating_add(self.disk_reserve.0) {
            return Err(self.full(place, needed, free));
        }
        Ok(())
    }

    /// Takes the whole file's space, so that another writer cannot make it run out midway.
    pub(super) fn allocate(
        &self,
        place: &Place,
        file: &File,
        bytes: u64,
    ) -> Result<(), SourceFault> {
        if bytes == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // Some filesystems cannot: there the check before is all there is.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
            other => other.map_err(io::Error::from),
        }
        .map_err(|e| self.disk(place, "take the space of the blob", e))
    }

    /// The fault of a failed disk operation.
    pub(super) fn disk(
        &self,
        place: &Place,
        attempt: &'static str,
        error: io::Error,
    ) -> SourceFault {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return self.full(place, 0, self.free_bytes().unwrap_or(ByteSize(0)));
        }
        SourceFault::Disk { place: place.clone(), attempt, source: error }
    }

    fn full(&self, place: &Place, needed: u64, free: ByteSize) -> SourceFault {
        let reserve = self.disk_reserve;
        SourceFault::DiskFull { place: place.clone(), needed: ByteSize(needed), free, reserve }
    }
}
