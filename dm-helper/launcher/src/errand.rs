//! What each errand does: a file each (LINK-3, HOST-2).

mod attach;
pub mod extract;
mod manifest;
pub(crate) mod node;
mod past;
pub(crate) mod pool;
mod thin_device;
pub mod verify;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use airlock_policy::digest::{BlobDigest, TreeDigest};
use airlock_policy::errand::{
    Answer, Backing, Envelope, Errand, Failure, LEDGER, Manifest, NEW_LEDGER, Stage, ThinDevice,
};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::name::ThinId;
use airlock_policy::worker::Job;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::log::failed;
use crate::program::Program;
use crate::worker::{Judge, Worker};
use pool::Pool;

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
    /// The pool's metadata device, by name only, and what the pool stands on; once it was opened.
    pool: Option<(OwnedFd, Backing)>,
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
        Self { config, state, worker, user_namespace, node_group, pool: None }
    }

    /// Begins an errand; most are over when this returns.
    pub fn begin(&mut self, envelope: &Envelope, errand: Errand) -> Result<Next, Failure> {
        match errand {
            Errand::OpenPool { create } => self.open_pool(create),
            Errand::GrowPool { part, bytes } => {
                let pool = pool::grow(&self.config.pool, self.state.as_fd(), part, bytes)?;
                Ok(self.opened(pool))
            }
            Errand::CheckPool => {
                let metadata = self.pool()?.0.try_clone();
                let metadata = metadata.map_err(|_full| failed(Stage::PoolCheck)(Errno::MFILE))?;
                self.tool(envelope, &Job::Check, &[metadata.as_fd()])
            }
            Errand::Format { device } => {
                let node = self.device(device, Role::Base)?;
                self.tool(envelope, &Job::Format, &[node.as_fd()])
            }
            Errand::Grow { device } => {
                let node = self.device(device, Role::Own)?;
                attach::require_unmounted(&node)?;
                self.tool(envelope, &Job::Grow, &[node.as_fd()])
            }
            Errand::Mount { device, name, read_only } => {
                let node = self.device(device, Role::Own)?;
                let point = attach::point(&node, &name, self.node_group)?;
                let Some(point) = point else { return Ok(Next::Answer(Answer::Done)) };
                let with = [node.as_fd(), point.as_fd()];
                self.tool(envelope, &Job::Mount { read_only }, &with)
            }
            Errand::Unmount { device, name } => {
                let node = thin_device::recognise(device, false, &self.pool()?.1)?;
                let folder = attach::mounted(&node, &name)?;
                let Some(folder) = folder else { return Ok(Next::Answer(Answer::Done)) };
                self.tool(envelope, &Job::Unmount(name), &[folder.as_fd()])
            }
            Errand::Extract { device, blob, below, unwrap } => {
                self.extract(envelope, device, (blob, below, unwrap))
            }
            Errand::Verify { device, tree } => self.verify(envelope, device, tree),
            Errand::Forget { thin } => {
                manifest::remove(self.state.as_fd(), thin)?;
                Ok(Next::Answer(Answer::Done))
            }
            // The loop's own: it knows what runs.
            Errand::Cancel { errand: _ } => Ok(Next::Answer(Answer::Done)),
            Errand::Publish { device, name } => {
                let node = self.device(device, Role::Snapshot)?;
                attach::require_unmounted(&node)?;
                past::mark(self.state.as_fd(), device.thin, past::HANDED_OUT)?;
                let mode = self.config.node.mode_bits().unwrap_or_default();
                node::publish(&node, (self.node_group, mode), device.minor, &name)?;
                Ok(Next::Answer(Answer::Done))
            }
            Errand::ExchangeLedger => {
                exchange_ledger(&self.state).map_err(failed(Stage::Ledger)).map(|()| done())
            }
            Errand::Unpublish { name } => node::unpublish(&name).map(|()| done()),
        }
    }

    fn open_pool(&mut self, create: bool) -> Result<Next, Failure> {
        let pool = pool::open(&self.config.pool, self.state.as_fd(), create)?;
        if pool.backing.fresh {
            past::forget(self.state.as_fd()).map_err(failed(Stage::PoolFiles))?;
        }
        Ok(self.opened(pool))
    }

    fn opened(&mut self, pool: Pool) -> Next {
        self.pool = Some((pool.metadata, pool.backing));
        Next::Answer(Answer::Backing(pool.backing))
    }

    fn extract(
        &mut self,
        envelope: &Envelope,
        device: ThinDevice,
        (blob, below, unwrap): (BlobDigest, Option<Manifest>, bool),
    ) -> Result<Next, Failure> {
        let node = self.device(device, Role::Volume)?;
        attach::require_unmounted(&node)?;
        let blob = extract::open_blob(&self.config.blobs, blob)?;
        let state = self.state.as_fd();
        let below = match below {
            Some(Manifest { thin, tree }) => manifest::open(state, thin)?.map(|file| (file, tree)),
            None => None,
        };
        let new = manifest::create(state, device.thin)?;
        let input = extract::Input { blob: blob.as_fd(), new, below, unwrap };
        past::mark(state, device.thin, past::FILLED)?;
        extract::start(self, node.as_fd(), input, envelope).map(run)
    }

    fn verify(
        &mut self,
        envelope: &Envelope,
        device: ThinDevice,
        tree: TreeDigest,
    ) -> Result<Next, Failure> {
        let node = self.device(device, Role::Sealed)?;
        let manifest = manifest::open(self.state.as_fd(), device.thin)?;
        verify::start(self, node.as_fd(), (manifest, tree), envelope).map(run)
    }

    /// The pool's devices. A launcher that was started anew beside a pool that is up opens them
    /// when they are first asked for.
    fn pool(&mut self) -> Result<&(OwnedFd, Backing), Failure> {
        if self.pool.is_none() {
            let pool = pool::open(&self.config.pool, self.state.as_fd(), false)?;
            self.pool = Some((pool.metadata, pool.backing));
        }
        self.pool.as_ref().ok_or(failed(Stage::PoolAbsent)(Errno::NOENT))
    }

    /// The node of a device that may be used so, whatever the broker says: only the base volume is
    /// formatted, a volume is extracted into once and never handed out, and what was handed out is
    /// never mounted.
    fn device(&mut self, device: ThinDevice, role: Role) -> Result<OwnedFd, Failure> {
        let is_base = device.thin == ThinId::BASE;
        let forbidden = match role {
            Role::Base => 0,
            Role::Volume | Role::Own => past::FILLED | past::HANDED_OUT,
            Role::Snapshot => past::FILLED,
            Role::Sealed => past::HANDED_OUT,
        };
        let is_role = is_base == matches!(role, Role::Base);
        if !is_role || past::has(self.state.as_fd(), device.thin, forbidden)? {
            return Err(failed(Stage::DeviceCheck)(Errno::PERM));
        }
        let is_out = matches!(role, Role::Snapshot);
        thin_device::recognise(device, is_out, &self.pool()?.1)
    }

    fn tool(
        &self,
        envelope: &Envelope,
        job: &Job,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Next, Failure> {
        let judge = match job {
            Job::HoldNamespace | Job::Extract(_) | Job::Verify(_) => Judge::ByReport,
            Job::Check => Judge::ByExit(Stage::PoolCheck),
            Job::Format => Judge::ByExit(Stage::Format),
            Job::Grow => Judge::ByExit(Stage::Grow),
            Job::Mount { .. } => Judge::ByErrno(Stage::Attach),
            Job::Unmount(_) => Judge::ByErrno(Stage::Detach),
        };
        let how = (envelope.clone(), judge, self.tool_time());
        Worker::start_tool(&self.worker, job, descriptors, how).map(run)
    }

    fn device_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.device_seconds)
    }

    fn tool_time(&self) -> Duration {
        Duration::from_secs(self.config.limits.tool_seconds)
    }
}

/// What a device is used as.
#[derive(Clone, Copy)]
enum Role {
    /// The base volume, formatted.
    Base,
    /// A layer's volume, extracted into.
    Volume,
    /// A snapshot, handed out.
    Snapshot,
    /// A snapshot that the host itself mounts or grows: never one that was handed out.
    Own,
    /// A sealed volume, read.
    Sealed,
}

const fn done() -> Next {
    Next::Answer(Answer::Done)
}

/// At every moment one of the two files is the ledger.
fn exchange_ledger(state: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::renameat_with(state, NEW_LEDGER, state, LEDGER, RenameFlags::EXCHANGE)?;
    crash_point!(LedgersExchanged);
    rustix::fs::fsync(state)
}

fn run(worker: Worker) -> Next {
    Next::Worker(Box::new(worker))
}
