//! What each errand does: a file each.

pub mod extract;
mod node;
mod pool;
mod thin_device;

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use airlock_policy::errand::{Answer, Envelope, Errand, Failure, Stage};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::worker::Job;
use rustix::io::Errno;

use crate::log::failed;
use crate::program::Program;
use crate::worker::Worker;

/// What all errands are done with.
#[derive(Debug)]
pub struct Desk {
    /// Root's configuration.
    pub config: HelperConfig,
    /// The state directory.
    pub state: OwnedFd,
    /// The worker's program.
    pub worker: Program,
    /// The user namespace that extractions live in.
    pub user_namespace: OwnedFd,
    /// The group that snapshots' nodes are given to.
    pub node_group: u32,
    /// The pool's metadata device, by name only; once the pool was opened.
    metadata: Option<OwnedFd>,
}

/// How an errand goes on.
#[derive(Debug)]
pub enum Next {
    /// It is over.
    Answer(Answer),
    /// A worker does it.
    Worker(Box<Worker>),
}

impl Desk {
    /// A desk with nothing done yet.
    pub fn new(
        config: HelperConfig,
        state: OwnedFd,
        worker: Program,
        (user_namespace, node_group): (OwnedFd, u32),
    ) -> Self {
        Self { config, state, worker, user_namespace, node_group, metadata: None }
    }

    /// Begins an errand; most are over when this returns.
    pub fn begin(&mut self, envelope: &Envelope, errand: Errand) -> Result<Next, Failure> {
        match errand {
            Errand::OpenPool { create } => {
                let pool = pool::open(&self.config.pool, self.state.as_fd(), create)?;
                self.metadata = Some(pool.metadata);
                Ok(Next::Answer(Answer::Backing(pool.backing)))
            }
            Errand::CheckPool => {
                let metadata =
                    self.metadata.as_ref().ok_or(failed(Stage::PoolAbsent)(Errno::NOENT))?;
                let how = (envelope.clone(), Stage::PoolCheck, self.tool_time());
                Worker::start_tool(&self.worker, &Job::Check, metadata.as_fd(), how).map(run)
            }
            Errand::Format { device } => {
                let node = thin_device::recognise(device)?;
                let how = (envelope.clone(), Stage::Format, self.tool_time());
                Worker::start_tool(&self.worker, &Job::Format, node.as_fd(), how).map(run)
            }
            Errand::Extract { device, blob } => {
                let node = thin_device::recognise(device)?;
                let blob = extract::open_blob(&self.config.blobs, blob)?;
                extract::start(self, node.as_fd(), blob.as_fd(), envelope).map(run)
            }
            // The loop's own: it knows what runs.
            Errand::Cancel { errand: _ } => Ok(Next::Answer(Answer::Done)),
            Errand::Publish { device, name } => {
                let node = thin_device::recognise(device)?;
                let mode = self.config.node.mode_bits().unwrap_or_default();
                node::publish(&node, (self.node_group, mode), device.minor, &name)?;
                Ok(Next::Answer(Answer::Done))
            }
            Errand::Unpublish { name } => {
                node::unpublish(&name)?;
                Ok(Next::Answer(Answer::Done))
            }
        }
    }

    fn tool_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.tool_seconds)
    }
}

fn run(worker: Worker) -> Next {
    Next::Worker(Box::new(worker))
}
