//! Whose turn it is: the state behind the verbs is in one pair of hands at a time.

use std::ops::{Deref, DerefMut};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airlock_policy::errand::{Answer, Errand};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::name::{DeviceName, RequestId, ThinId};
use airlock_protocol::not_done::{NotDone, Step, StepFailure};
use tokio::sync::mpsc::WeakUnboundedSender;

use crate::audit::{Asked, Peer};
use crate::dm::table::Target;
use crate::dm::{Access, ChangeTable, Device, DeviceTable};
use crate::errands::Errands;
use crate::extraction::Extractions;
use crate::helper::{Parts, unexpected};
use crate::ledger::Ledger;
use crate::operations::{Operation, Operations, Subject};
use crate::pace::Pace;
use crate::verification::Verifications;
use crate::worker::Job;

/// The state behind the verbs.
pub(crate) struct State {
    pub(crate) config: HelperConfig,
    pub(crate) table: Arc<dyn DeviceTable>,
    pub(crate) ledger: Ledger,
    pub(crate) errands: Errands,
    pub(crate) extractions: Extractions,
    pub(crate) verifications: Verifications,
    /// Whether ledger and pool were brought into agreement since this process started.
    pub(crate) ready: bool,
    pub(crate) operations: Operations,
    pub(crate) pace: Pace,
    /// The same table, to change.
    changes: Arc<dyn ChangeTable>,
    jobs: WeakUnboundedSender<Job>,
}

/// Where the state lies between two turns.
pub(crate) struct Turns {
    state: Mutex<Option<Box<State>>>,
    is_back: Condvar,
}

/// The state, in the hands of the thread whose turn it is.
pub(crate) struct Helper {
    turns: Arc<Turns>,
    /// `None` only while this thread waits for a device in [`Helper::on_thin`].
    state: Option<Box<State>>,
    /// Who is being worked for.
    pub(crate) peer: Peer,
    request: Option<RequestId>,
    task: u64,
}

impl Turns {
    pub(crate) fn new(
        parts: Parts,
        operations: Operations,
        jobs: WeakUnboundedSender<Job>,
    ) -> Arc<Self> {
        let Parts { config, table: changes, ledger, errands, confined: _, give_up: _ } = parts;
        let table: Arc<dyn DeviceTable> = changes.clone();
        let (extractions, verifications, ready) = Default::default();
        let (burst, per_minute) = (config.limits.burst, config.limits.per_minute);
        let pace = Pace::new(burst, per_minute, Instant::now());
        let state = State {
            config,
            table,
            ledger,
            errands,
            extractions,
            verifications,
            ready,
            operations,
            pace,
            changes,
            jobs,
        };
        Arc::new(Self { state: Mutex::new(Some(Box::new(state))), is_back: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        // A thread that panics ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<State>> {
        let none = |state: &mut Option<_>| state.is_none();
        let state = self.is_back.wait_while(self.lock(), none);
        state.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, state: Option<Box<State>>) {
        *self.lock() = state;
        self.is_back.notify_one();
    }
}

impl Deref for Helper {
    type Target = State;

    fn deref(&self) -> &State {
        // Nobody but `on_thin` takes it out, and that puts it back before anybody looks.
        let Some(state) = &self.state else { process::abort() };
        state
    }
}

impl DerefMut for Helper {
    fn deref_mut(&mut self) -> &mut State {
        let Some(state) = &mut self.state else { process::abort() };
        state
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.turns.put(self.state.take());
    }
}

impl Helper {
    /// Waits for this thread's turn, which ends with the value.
    pub(crate) fn turn(turns: &Arc<Turns>) -> Self {
        let peer = Peer { uid: 0, pid: 0 };
        Self { turns: Arc::clone(turns), state: turns.take(), peer, request: None, task: 0 }
    }

    /// Says whom the turn is for.
    pub(crate) fn serve(&mut self, asked: &Asked, task: u64) {
        (self.peer, self.request, self.task) = (asked.peer, Some(asked.request.clone()), task);
    }

    /// Lets other threads leave work for the next turn.
    pub(crate) fn jobs(&self) -> WeakUnboundedSender<Job> {
        self.jobs.clone()
    }

    /// An operation of this turn's, with the deadline of a change of a device.
    pub(crate) fn operation(&self, step: Step) -> Operation {
        let request = self.request.as_ref().map(ToString::to_string).unwrap_or_default();
        let within = self.device_time();
        Operation { step, request, task: self.task, within, is_shared: false, on_late: None }
    }

    /// Notes that an operation is over, and lets those go on who waited for it.
    pub(crate) fn end_operation(&self, subject: Subject, result: &str) {
        let waited = self.operations.end(subject, &result);
        if let Some(jobs) = self.jobs.upgrade() {
            // Where one is refused the process is ending.
            for job in waited {
                drop(jobs.send(job));
            }
        }
    }

    /// Does something with one thin device. It may hang, so others have their turns meanwhile; none of
    /// them touches this device. Before the pool is ready there is nothing that others could do.
    fn on_thin<T>(
        &mut self,
        thin: ThinId,
        operation: Operation,
        act: impl FnOnce() -> Result<T, NotDone>,
    ) -> Result<T, NotDone> {
        let subject = Subject::Thin(thin);
        self.operations.begin(subject, operation);
        if self.ready {
            self.turns.put(self.state.take());
        }
        let result = act();
        if self.state.is_none() {
            self.state = self.turns.take();
        }
        self.end_operation(subject, &said(&result));
        result
    }

    /// Does something with the pool. What hangs here, everybody waits for: so the turn is kept.
    pub(crate) fn on_pool<T>(
        &self,
        step: Step,
        act: impl FnOnce() -> Result<T, StepFailure>,
    ) -> Result<T, NotDone> {
        self.operations.begin(Subject::Pool, self.operation(step));
        let result = act().map_err(NotDone::Failed);
        self.end_operation(Subject::Pool, &said(&result));
        result
    }

    /// Sends the pool a message.
    pub(crate) fn message(&mut self, text: &str) -> Result<(), NotDone> {
        self.on_pool(Step::PoolMessage, || self.changes.message(text))
    }

    /// Gives the pool another table, while it is in use.
    pub(crate) fn reload_table(&mut self, target: &Target) -> Result<(), NotDone> {
        self.on_pool(Step::Resume, || self.changes.reload(DeviceName::Pool, target))
    }

    /// Resumes the pool.
    pub(crate) fn resume_table(&mut self) -> Result<(), NotDone> {
        self.on_pool(Step::Resume, || self.changes.resume(DeviceName::Pool))
    }

    /// Creates a device, loads its table and resumes it. Where any of it fails, nothing is left.
    pub(crate) fn create(
        &mut self,
        name: DeviceName,
        target: &Target,
        access: Access,
    ) -> Result<Device, NotDone> {
        let (step, changes) = (Step::CreateDevice, Arc::clone(&self.changes));
        let create = move || changes.create(name, target, access);
        match name {
            DeviceName::Pool => self.on_pool(step, create),
            DeviceName::Thin(thin) => {
                self.on_thin(thin, self.operation(step), || create().map_err(NotDone::Failed))
            }
        }
    }

    /// Removes a device that nobody holds. Never by force.
    pub(crate) fn remove(&mut self, name: DeviceName) -> Result<(), NotDone> {
        let (step, changes) = (Step::RemoveDevice, Arc::clone(&self.changes));
        let remove = move || changes.remove(name);
        match name {
            DeviceName::Pool => self.on_pool(step, remove),
            DeviceName::Thin(thin) => {
                self.on_thin(thin, self.operation(step), || remove().map_err(NotDone::Failed))
            }
        }
    }

    /// Has the launcher do something with a thin device, and answer that it is done.
    pub(crate) fn errand_on(
        &mut self,
        thin: ThinId,
        request: &RequestId,
        (errand, within): (Errand, Duration),
    ) -> Result<(), NotDone> {
        let (errands, request) = (self.errands.clone(), request.clone());
        // The wait ends by itself: the device is not late, the launcher is.
        let within_link = within.saturating_add(Duration::from_secs(5));
        let operation = Operation { within: within_link, ..self.operation(Step::Launcher) };
        self.on_thin(thin, operation, move || {
            let answer = errands.call(&request, &errand, within)?;
            if answer == Answer::Done { Ok(()) } else { Err(unexpected(&answer)) }
        })
    }
}

impl Helper {
    /// Has the launcher do something at once, in this turn, and answer that it is done.
    pub(crate) fn errand_now(&self, errand: &Errand) -> Result<(), NotDone> {
        // Every turn that changes anything is somebody's.
        let Some(request) = self.request() else { return Err(NotDone::Stopping) };
        self.errand(request, errand, self.device_time())
    }

    /// Whose turn it is.
    pub(crate) const fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }
}

fn said<T>(result: &Result<T, NotDone>) -> String {
    result.as_ref().map_or_else(ToString::to_string, |_done| "done".to_owned())
}
