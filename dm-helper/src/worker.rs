//! The single thread that changes the device table and the ledger.
//!
//! A request is taken whole or not at all: `tarpc` may drop a handler when its caller hangs up or
//! its deadline passes, so a handler only waits, and never does the work itself (WIRE-5). Nor does it
//! wait for a device that hangs (POOL-4).

use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use airlock_policy::helper_config::LimitsConfig;
use airlock_protocol::not_done::{NotDone, Refusal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::audit::{Asked, Peer};
use crate::helper::{Helper, Parts};
use crate::permit::{self, Operation};

/// The most requests that wait for the thread, abandoned ones included.
const QUEUE: usize = 64;

/// Something for the thread to do.
pub(crate) type Job = Box<dyn FnOnce(&mut Helper) + Send>;

/// Half-done work is never gone on with in memory that may be wrong: a panic here ends the
/// process, and the next start reads the truth from ledger and pool.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

/// A handle to the thread. It ends when the last handle is gone.
#[derive(Clone)]
pub struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    /// Bounds the queue: a place is given back when its job was done.
    places: Arc<Semaphore>,
    limits: Arc<LimitsConfig>,
    confined: bool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    /// Starts the thread.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let places = Arc::new(Semaphore::new(QUEUE));
        let limits = Arc::new(parts.config.limits.clone());
        let confined = parts.confined;
        let mut helper = Helper::new(parts, jobs.downgrade());
        thread::Builder::new().name("privileged".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            helper.resume_pool();
            while let Some(job) = queue.blocking_recv() {
                job(&mut helper);
            }
        })?;
        Ok(Self { jobs, places, limits, confined })
    }

    pub(crate) fn limits(&self) -> &LimitsConfig {
        &self.limits
    }

    pub(crate) const fn confined(&self) -> bool {
        self.confined
    }

    /// Has a request checked and performed, and waits for the answer as long as it is worth it.
    /// The work is done all the same when the caller goes or the wait ends.
    pub(crate) async fn run<Op: Operation>(
        &self,
        request: Op,
        peer: Peer,
    ) -> Result<Op::Reply, NotDone> {
        let patience = Op::patience(&self.limits).saturating_add(Duration::from_secs(1));
        tokio::time::timeout(patience, self.queue(request, peer))
            .await
            .unwrap_or(Err(NotDone::Refused(Refusal::LateDevice)))
    }

    async fn queue<Op: Operation>(&self, request: Op, peer: Peer) -> Result<Op::Reply, NotDone> {
        let since = Instant::now();
        let place =
            Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| NotDone::Stopping)?;
        let (reply, outcome) = oneshot::channel();
        let job: Job = Box::new(move |helper| {
            let asked = Asked {
                verb: Op::VERB,
                request: request.request().clone(),
                peer,
                subject: request.subject(),
                since,
            };
            helper.peer = peer;
            let result = permit::run(request, helper);
            asked.answered(&Op::verdict(&result));
            // The caller may be gone.
            drop(reply.send(result));
            drop(place);
        });
        self.jobs.send(job).map_err(|_stopped| NotDone::Stopping)?;
        outcome.await.map_err(|_stopped| NotDone::Stopping)?
    }
}
