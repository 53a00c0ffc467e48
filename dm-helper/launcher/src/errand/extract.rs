//! Starts an extraction: a worker that has the blob, the device and no more.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, TreeDigest};
use airlock_policy::errand::{Envelope, Failure, Stage};
use airlock_policy::worker::{ExtractOrder, Job};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Desk;
use crate::log::failed;
use crate::worker::Worker;

/// Opens a blob beneath the controller's folder. Whatever the controller did to that folder, what
/// is opened is a regular file in it.
pub fn open_blob(blobs: &Path, blob: BlobDigest) -> Result<OwnedFd, Failure> {
    let failed = failed(Stage::BlobOpen);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(blobs, flags, Mode::empty()).map_err(&failed)?;
    // BLOB-1: no link is followed, on no component, and no other filesystem entered. A named pipe of that
    // name keeps nobody waiting.
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = format!("sha256/{}", blob.0.hex());
    let blob =
        rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve).map_err(&failed)?;
    let stat = rustix::fs::fstat(&blob).map_err(&failed)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(blob)
    } else {
        Err(failed(Errno::INVAL))
    }
}

/// What an extraction reads and writes, the volume aside.
#[derive(Debug)]
pub struct Input<'b> {
    /// The blob, open for reading.
    pub blob: BorrowedFd<'b>,
    /// The volume's manifest, empty and open to be written.
    pub new: OwnedFd,
    /// The manifest of the volume below, and the digest that it must have.
    pub below: Option<(OwnedFd, TreeDigest)>,
    /// Whether the archive is unwrapped.
    pub unwrap: bool,
}

/// Starts extracting a blob into the filesystem on a device. The mount is the worker's own: when it
/// has ended, the filesystem is unmounted.
pub fn start(
    desk: &Desk,
    device: BorrowedFd<'_>,
    input: Input<'_>,
    envelope: &Envelope,
) -> Result<Worker, Failure> {
    let limits = &desk.config.limits;
    let Input { blob, new, below, unwrap } = input;
    let job = Job::Extract(ExtractOrder {
        envelope: envelope.clone(),
        limits: limits.archive(),
        memory: limits.worker_memory.0,
        below: below.as_ref().map(|(_, tree)| *tree),
        unwrap,
    });
    let time = Duration::from_secs(limits.extract_seconds);
    let mut behind = vec![desk.user_namespace.as_fd(), new.as_fd()];
    behind.extend(below.as_ref().map(|(file, _)| file.as_fd()));
    let descriptors = (&[device, blob][..], &behind[..]);
    let times = (desk.device_time(), time);
    Worker::start_reporting(&desk.worker, &job, descriptors, (envelope.clone(), times))
}
