//! The pool's two files beneath the state directory (POOL-3).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airlock_policy::errand::{Failure, Stage};
use airlock_policy::helper_config::{PoolConfig, PoolPart};
use airlock_policy::size::ByteSize;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::file;
use crate::log::failed;

const DATA: &str = "data.img";
const METADATA: &str = "metadata.img";
/// Both.
pub(super) const BOTH: [&str; 2] = [DATA, METADATA];

/// A data block of the pool, in bytes.
const DATA_BLOCK: u64 = 128 << 10;
/// The kernel's rule for the metadata's size (thin-provisioning.rst): bytes for each data block.
const METADATA_PER_BLOCK: u64 = 48;
/// A metadata block, which is also what its superblock takes.
const METADATA_BLOCK: usize = 4096;

/// Both files, open.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) data: OwnedFd,
    pub(super) metadata: OwnedFd,
    /// Nothing was ever written to either.
    pub(super) fresh: bool,
}

/// Opens both files, or makes what is missing of a pair that was never written to: so a launcher
/// that is killed while it makes them leaves nothing that the next one cannot finish.
pub(super) fn open(
    config: &PoolConfig,
    state: BorrowedFd<'_>,
    create: bool,
) -> Result<Files, Failure> {
    let failed = failed(Stage::PoolFiles);
    let data = existing(state, DATA).map_err(&failed)?;
    let metadata = existing(state, METADATA).map_err(&failed)?;
    let absent = Failure { stage: Stage::PoolAbsent, errno: Errno::NOENT.raw_os_error() };
    let conflict = Failure { stage: Stage::PoolConflict, errno: Errno::EXIST.raw_os_error() };
    // The data file is sparse and takes no space before the first write.
    let data_is_unused = match &data {
        None => true,
        Some(data) => rustix::fs::fstat(data).map_err(&failed)?.st_blocks == 0,
    };
    let metadata_is_unused = match &metadata {
        None => true,
        Some(metadata) => has_no_superblock(metadata).map_err(&failed)?,
    };
    let fresh = data_is_unused && metadata_is_unused;
    let (data, metadata) = match (data, metadata) {
        (Some(data), Some(metadata)) => (data, metadata),
        _ if !fresh => return Err(conflict),
        _ if !create => return Err(absent),
        (data, metadata) => {
            let (data_size, metadata_size) = sizes(config, state).map_err(&failed)?;
            let data = data.map_or_else(|| make(state, DATA, data_size, Space::Sparse), Ok);
            // Metadata without space would take the pool read-only: its space is taken at once.
            let metadata =
                metadata.map_or_else(|| make(state, METADATA, metadata_size, Space::Taken), Ok);
            (data.map_err(&failed)?, metadata.map_err(&failed)?)
        }
    };
    Ok(Files { data, metadata, fresh })
}

/// Whether the device or file has no pool's superblock: its place is all zeros.
pub(super) fn has_no_superblock(metadata: impl AsFd) -> Result<bool, Errno> {
    let mut block = [0_u8; METADATA_BLOCK];
    let count = rustix::io::pread(metadata, &mut block[..], 0)?;
    Ok(count == METADATA_BLOCK && block.iter().all(|byte| *byte == 0))
}

/// Makes a file at least this large, in whole blocks. Beforehand the disk must have room for all
/// that the file may come to take: a sparse one that runs out later would harm whoever writes.
pub(super) fn grow(file: &OwnedFd, part: PoolPart, bytes: u64) -> Result<(), Errno> {
    // Whole data blocks, which are whole metadata blocks too.
    let odd = bytes % DATA_BLOCK;
    let (stat, bytes) = (rustix::fs::fstat(file)?, bytes.saturating_sub(odd));
    let (size, taken) = (stat.st_size.unsigned_abs(), stat.st_blocks.unsigned_abs());
    if bytes <= size {
        return Ok(());
    }
    let disk = rustix::fs::fstatvfs(file)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes.saturating_sub(taken.saturating_mul(512)) > free {
        return Err(Errno::NOSPC);
    }
    match part {
        PoolPart::Data => rustix::fs::ftruncate(file, bytes)?,
        PoolPart::Metadata => take(file, size, bytes)?,
    }
    rustix::fs::fsync(file)
}

/// Makes a file this large, its new part filled with zeros that take their space now.
fn take(file: &OwnedFd, from: u64, to: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to.saturating_sub(from)) {
        // A filesystem that cannot say in advance: it may run out later, and then says so.
        Err(Errno::OPNOTSUPP) => rustix::fs::ftruncate(file, to),
        other => other,
    }
}

pub(super) fn existing(state: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(state, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    file::check(&stat, FileType::RegularFile, file::ANY).map_err(|_untrusted| Errno::PERM)?;
    Ok(Some(file))
}

/// Whether a file's space is taken when it is made.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Space {
    Sparse,
    Taken,
}

/// Makes a file under another name, and gives it its own when it is whole and on the disk.
fn make(state: BorrowedFd<'_>, name: &str, size: u64, space: Space) -> Result<OwnedFd, Errno> {
    let unfinished = format!("{name}.new");
    match rustix::fs::unlinkat(state, &unfinished, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(state, &unfinished, flags, Mode::RUSR | Mode::WUSR)?;
    match space {
        Space::Sparse => rustix::fs::ftruncate(&file, size)?,
        Space::Taken => take(&file, 0, size)?,
    }
    rustix::fs::fsync(&file)?;
    rustix::fs::renameat_with(state, &unfinished, state, name, RenameFlags::NOREPLACE)?;
    rustix::fs::fsync(state)?;
    crash_point!(PoolFileMade);
    Ok(file)
}

/// The sizes of both files in bytes: as configured, or from what the disk has.
fn sizes(config: &PoolConfig, state: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let data = if let Some(ByteSize(size)) = config.data_size {
        size
    } else {
        let disk = rustix::fs::fstatvfs(state)?;
        default_data(disk.f_bavail.saturating_mul(disk.f_frsize)).ok_or(Errno::NOSPC)?
    };
    let data = data.saturating_sub(data % DATA_BLOCK);
    Ok((data, config.metadata_size.map_or_else(|| default_metadata(data), |size| size.0)))
}

/// 10 GiB, or half of the free disk if that is less; `None` if that is below the least.
fn default_data(free: u64) -> Option<u64> {
    let size = ByteSize::gib(10).0.min(free / 2);
    (size >= ByteSize::mib(128).0).then_some(size)
}

/// The kernel's rule times two, 16 MiB to 16 GiB, in whole metadata blocks.
fn default_metadata(data: u64) -> u64 {
    let blocks = data.div_ceil(DATA_BLOCK);
    let rule = blocks.saturating_mul(METADATA_PER_BLOCK).saturating_mul(2);
    rule.next_multiple_of(METADATA_BLOCK as u64).clamp(ByteSize::mib(16).0, ByteSize::gib(16).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_disk_and_the_kernels_rule() {
        let (mib, gib) = (|n| ByteSize::mib(n).0, |n| ByteSize::gib(n).0);
        assert_eq!(default_data(gib(100)), Some(gib(10)));
        assert_eq!(default_data(gib(6)), Some(gib(3)));
        assert_eq!(default_data(mib(255)), None);
        assert_eq!(default_metadata(gib(10)), mib(16));
        // 1 TiB has 8,388,608 blocks of 48 bytes: 384 MiB, twice.
        assert_eq!(default_metadata(gib(1024)), mib(768));
        assert_eq!(default_metadata(gib(65_536)), gib(16));
    }
}
