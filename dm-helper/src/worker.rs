//! The threads that change the device table and the ledger: one at a time, in turns.
//!
//! A request is taken whole or not at all: `tarpc` may drop a handler when its caller hangs up or
//! its deadline passes, so a handler only waits, and never does the work itself (WIRE-5). Nor does it
//! wait for a device that hangs (POOL-4): a thread gives its turn to the next one before it does
//! what may hang with a thin device, and takes another turn when that is over. What changes the
//! pool itself keeps its turn: a pool that hangs is everybody's.

use std::fmt;
use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use airlock_policy::helper_config::LimitsConfig;
use airlock_protocol::not_done::{NotDone, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::audit::{Asked, Peer};
use crate::helper::{Helper, Parts};
use crate::operations::{Admission, Operations};
use crate::permit::{self, Operation, refuse};
use crate::turns::Turns;

/// The most requests that wait for a thread, abandoned ones included.
const QUEUE: usize = 64;

/// Something for a thread to do, in its turn.
pub(crate) type Job = Box<dyn FnOnce(&mut Helper) + Send>;

/// The threads. One that hangs in the kernel is lost until the kernel answers; when all are, what
/// is asked for is late.
const THREADS: usize = 16;

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

/// A handle to the threads. They end when the last handle is gone.
#[derive(Clone)]
pub struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    operations: Operations,
    /// Bounds the queue: a place is given back when its job was done.
    places: Arc<Semaphore>,
    tasks: Arc<AtomicU64>,
    limits: Arc<LimitsConfig>,
    confined: bool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    /// Starts the threads.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let limits = Arc::new(parts.config.limits.clone());
        let (confined, give_up) = (parts.confined, parts.give_up);
        let operations = Operations::default();
        let turns = Turns::new(parts, operations.clone(), jobs.downgrade());
        for _thread in 0..THREADS {
            let (queue, turns) = (Arc::clone(&queue), Arc::clone(&turns));
            thread::Builder::new().name("privileged".to_owned()).spawn(move || {
                let _guard = AbortOnPanic;
                work(&queue, &turns, give_up);
            })?;
        }
        // Before anything is asked for: a pool that was left suspended keeps every writer waiting.
        let resume: Job = Box::new(Helper::resume_pool);
        jobs.send(resume).map_err(|_ended| io::ErrorKind::BrokenPipe)?;
        let (places, tasks) = (Arc::new(Semaphore::new(QUEUE)), Arc::default());
        Ok(Self { jobs, operations, places, tasks, limits, confined })
    }

    pub(crate) fn limits(&self) -> &LimitsConfig {
        &self.limits
    }

    pub(crate) const fn confined(&self) -> bool {
        self.confined
    }

    /// Marks what is past its deadline: to be called each second.
    pub(crate) fn tick(&self) {
        for job in self.operations.overdue(Instant::now()) {
            // Where it is refused the process is ending.
            drop(self.jobs.send(job));
        }
    }

    /// Has a request checked and performed, and waits for the answer as long as it is worth it.
    /// The work is done all the same when the caller goes or the wait ends.
    pub(crate) async fn run<Op: Operation>(
        &self,
        request: Op,
        peer: Peer,
    ) -> Result<Op::Reply, NotDone> {
        if self.operations.is_pool_late() {
            return refuse(Refusal::LateDevice);
        }
        let number = self.tasks.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let patience = Op::patience(&self.limits).saturating_add(Duration::from_secs(1));
        match tokio::time::timeout(patience, self.queue(request, peer, number)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(match self.operations.step_of(number) {
                Some(step) => NotDone::Late(step),
                None => NotDone::Refused(Refusal::LateDevice),
            }),
        }
    }

    async fn queue<Op: Operation>(
        &self,
        request: Op,
        peer: Peer,
        number: u64,
    ) -> Result<Op::Reply, NotDone> {
        let asked = Asked {
            verb: Op::VERB,
            request: request.request().clone(),
            peer,
            subject: request.subject(),
            since: Instant::now(),
        };
        let place =
            Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| NotDone::Stopping)?;
        let (reply, outcome) = oneshot::channel();
        let task = Task { request, asked, number, reply, place };
        let job: Job = Box::new(move |helper| task.attempt(helper));
        self.jobs.send(job).map_err(|_stopped| NotDone::Stopping)?;
        outcome.await.map_err(|_stopped| NotDone::Stopping)?
    }
}

/// What a thread does: a job a turn.
fn work(queue: &Mutex<mpsc::UnboundedReceiver<Job>>, turns: &Arc<Turns>, give_up: fn()) {
    while let Some(job) = next(queue) {
        let mut helper = Helper::turn(turns);
        job(&mut helper);
        if helper.ledger.is_broken() {
            give_up();
        }
    }
}

fn next(queue: &Mutex<mpsc::UnboundedReceiver<Job>>) -> Option<Job> {
    // Nothing panics while it is held.
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

/// A request on its way.
struct Task<Op: Operation> {
    request: Op,
    asked: Asked,
    number: u64,
    reply: oneshot::Sender<Result<Op::Reply, NotDone>>,
    place: OwnedSemaphorePermit,
}

impl<Op: Operation> Task<Op> {
    /// Serves it, unless something is being done to a device that it names.
    fn attempt(self, helper: &mut Helper) {
        let names = self.request.names();
        let thins: Vec<_> = names.iter().filter_map(|name| helper.thin_of(name)).collect();
        let operations = helper.operations.clone();
        let mut running = operations.lock();
        match running.admission(&thins) {
            Admission::After(subject) => {
                running.wait(subject, Box::new(move |helper| self.attempt(helper)));
            }
            Admission::Late => {
                drop(running);
                self.answer(refuse(Refusal::Quarantined));
            }
            Admission::Go => {
                drop(running);
                helper.serve(&self.asked, self.number);
                let result = permit::run(self.request.clone(), helper);
                self.answer(result);
            }
        }
    }

    fn answer(self, result: Result<Op::Reply, NotDone>) {
        self.asked.answered(&Op::verdict(&result));
        // The caller may be gone.
        drop(self.reply.send(result));
        drop(self.place);
    }
}
