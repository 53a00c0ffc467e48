//! Opens the devices that the pool is made of: those that root named, or files behind loop
//! devices. What exists is never made anew.

mod files;
mod loops;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use airlock_policy::errand::{
    Backing, BlockDevice, Failure, LEDGER, NEW_LEDGER, PAST, Stage, TREES,
};
use airlock_policy::helper_config::{PoolConfig, PoolPart};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::manifest;
use crate::file;
use crate::log::{failed, log};
use files::Files;

/// The pool's devices, found or made.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) backing: Backing,
    /// The metadata device, as a descriptor that can do nothing but name it.
    pub(super) metadata: OwnedFd,
}

/// Opens the pool's devices; files that do not exist are made if `create` says so.
pub(super) fn open(
    config: &PoolConfig,
    state: BorrowedFd<'_>,
    create: bool,
) -> Result<Pool, Failure> {
    if let (Some(data), Some(metadata)) = (&config.data_device, &config.metadata_device) {
        let failed = failed(Stage::PoolFiles);
        let data = named_device(data).map_err(&failed)?;
        let metadata = named_device(metadata).map_err(&failed)?;
        // Of a device nobody can say that it was never written. But without a superblock it holds
        // no pool, by the kernel's own rule (dm-thin-metadata.c, `__superblock_all_zeroes`).
        let fresh = files::has_no_superblock(&metadata).map_err(&failed)?;
        if fresh && !create {
            return Err(Failure { stage: Stage::PoolAbsent, errno: Errno::NOENT.raw_os_error() });
        }
        return pool(&data, &metadata, fresh).map_err(failed);
    }
    attach(&files::open(config, state, create)?)
}

/// Grows one of the pool's files, within root's limits, and answers both devices (POOL-5).
pub(super) fn grow(
    config: &PoolConfig,
    state: BorrowedFd<'_>,
    part: PoolPart,
    bytes: u64,
) -> Result<Pool, Failure> {
    // The broker has asked the same, and may have been taken over.
    if config.limit(part).is_none_or(|limit| bytes > limit.0) {
        return Err(failed(Stage::PoolGrow)(Errno::PERM));
    }
    let files = files::open(config, state, false)?;
    let file = match part {
        PoolPart::Data => &files.data,
        PoolPart::Metadata => &files.metadata,
    };
    files::grow(file, part, bytes).map_err(failed(Stage::PoolGrow))?;
    attach(&files)
}

/// Detaches the loop devices of the pool's files. No table uses them any more.
pub(crate) fn detach_loops(state: BorrowedFd<'_>, is_dry: bool) -> Result<(), Errno> {
    for name in files::BOTH {
        let Some(file) = files::existing(state, name)? else { continue };
        if loops::find(&file)?.is_none() {
            continue;
        }
        if is_dry {
            log(&format!("would detach the loop device of {name}"));
        } else {
            loops::detach(&file)?;
            log(&format!("detached the loop device of {name}"));
        }
    }
    Ok(())
}

/// Removes the pool's files, and what is nothing without them: the ledger with its spare, the manifests
/// and the past.
pub(crate) fn remove_files(state: BorrowedFd<'_>, is_dry: bool) -> Result<(), Errno> {
    if is_dry {
        log(&format!("would remove {TREES}"));
    } else {
        manifest::remove_all(state)?;
    }
    for name in files::BOTH.iter().chain(&[PAST, NEW_LEDGER, LEDGER]) {
        if is_dry {
            log(&format!("would remove {name}"));
            continue;
        }
        match rustix::fs::unlinkat(state, *name, AtFlags::empty()) {
            Ok(()) => log(&format!("removed {name}")),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fsync(state)
}

fn attach(files: &Files) -> Result<Pool, Failure> {
    let attach = failed(Stage::LoopAttach);
    let data = loops::attach(&files.data).map_err(&attach)?;
    let metadata = loops::attach(&files.metadata).map_err(&attach)?;
    pool(&data, &metadata, files.fresh).map_err(attach)
}

fn pool(data: &OwnedFd, metadata: &OwnedFd, fresh: bool) -> Result<Pool, Errno> {
    let backing = Backing { data: block_device(data)?, metadata: block_device(metadata)?, fresh };
    Ok(Pool { backing, metadata: file::named(metadata)? })
}

/// Opens a device that root's configuration names; links in `/dev/disk` are followed.
fn named_device(path: &Path) -> Result<OwnedFd, Errno> {
    let device = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    block_device(&device)?;
    Ok(device)
}

fn block_device(device: impl AsFd) -> Result<BlockDevice, Errno> {
    let stat = rustix::fs::fstat(&device)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(Errno::NOTBLK);
    }
    Ok(BlockDevice {
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        sectors: rustix::fs::seek(&device, SeekFrom::End(0))? / 512,
    })
}
