//! Starts a verification: a worker that has the device and the manifest.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use airlock_policy::digest::TreeDigest;
use airlock_policy::errand::{Envelope, Failure};
use airlock_policy::worker::{Job, VerifyOrder};

use super::Desk;
use crate::worker::Worker;

/// Starts reading the filesystem on a device.
pub fn start(
    desk: &Desk,
    device: BorrowedFd<'_>,
    (manifest, tree): (Option<OwnedFd>, TreeDigest),
    envelope: &Envelope,
) -> Result<Worker, Failure> {
    let limits = &desk.config.limits;
    let job = Job::Verify(VerifyOrder {
        envelope: envelope.clone(),
        memory: limits.worker_memory.0,
        tree,
        manifest: manifest.is_some(),
    });
    let time = Duration::from_secs(limits.verify_seconds);
    let mut behind = vec![desk.user_namespace.as_fd()];
    behind.extend(manifest.as_ref().map(|manifest| manifest.as_fd()));
    let descriptors = (&[device][..], &behind[..]);
    let times = (desk.device_time(), time);
    Worker::start_reporting(&desk.worker, &job, descriptors, (envelope.clone(), times))
}
