//! What is being done to devices, since when, and who waits for it (POOL-4).
//!
//! An operation that hangs in the kernel can be neither ended nor asked how far it is. So past its
//! deadline it is named, its volume is left alone (quarantined) until the kernel answers, and
//! whoever waited for that volume is told. Nothing is forced, killed or tried again.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airlock_policy::name::{DeviceName, ThinId};
use airlock_protocol::not_done::Step;
use airlock_protocol::reply::LateOperation;

use crate::audit;
use crate::worker::Job;

/// What an operation is done to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Subject {
    Pool,
    Thin(ThinId),
}

impl Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Pool => DeviceName::Pool,
            Self::Thin(thin) => DeviceName::Thin(*thin),
        };
        Display::fmt(&name, f)
    }
}

/// One that has not come to its end.
pub(crate) struct Operation {
    pub(crate) step: Step,
    pub(crate) request: String,
    /// The number of the task that it is done for.
    pub(crate) task: u64,
    pub(crate) within: Duration,
    /// Whether the volume may be asked about meanwhile: an extraction is polled.
    pub(crate) is_shared: bool,
    /// What is done when it is late in this step, without waiting for anything.
    pub(crate) on_late: Option<Box<dyn FnOnce(Step) + Send>>,
}

struct Running {
    operation: Operation,
    since: Instant,
    is_late: bool,
    waiting: Vec<Job>,
}

/// Whether a request may be served now.
pub(crate) enum Admission {
    Go,
    Late,
    /// Once this is over.
    After(Subject),
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Operations(Arc<Mutex<Registry>>);

#[derive(Default)]
pub(crate) struct Registry(BTreeMap<Subject, Running>);

impl Operations {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing panics while it is held, and a map is whole at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, subject: Subject, operation: Operation) {
        let (since, waiting) = (Instant::now(), Vec::new());
        let running = Running { operation, since, is_late: false, waiting };
        self.lock().0.insert(subject, running);
    }

    /// Notes that one has come to its next step, to be over so long after its begin.
    pub(crate) fn proceed(&self, subject: Subject, (step, within): (Step, Duration)) {
        if let Some(running) = self.lock().0.get_mut(&subject) {
            (running.operation.step, running.operation.within) = (step, within);
        }
    }

    /// Notes an end; a late one is told. Returns who waited for it.
    pub(crate) fn end(&self, subject: Subject, result: &dyn Display) -> Vec<Job> {
        let Some(running) = self.lock().0.remove(&subject) else { return Vec::new() };
        if running.is_late {
            running.tell("late-result", subject, &[("result", result)]);
        }
        running.waiting
    }

    /// Marks what is past its deadline. Returns who waited for it.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<Job> {
        let mut told = Vec::new();
        for (subject, running) in &mut self.lock().0 {
            let elapsed = now.saturating_duration_since(running.since);
            if !running.is_late && elapsed >= running.operation.within {
                running.is_late = true;
                running.tell("device-late", *subject, &[]);
                let step = running.operation.step;
                running.operation.on_late.take().into_iter().for_each(|tell| tell(step));
                told.append(&mut running.waiting);
            }
        }
        told
    }

    /// What a task is doing at this moment.
    pub(crate) fn step_of(&self, task: u64) -> Option<Step> {
        let registry = self.lock();
        let running = registry.0.values().find(|running| running.operation.task == task)?;
        Some(running.operation.step)
    }

    pub(crate) fn is_pool_late(&self) -> bool {
        self.lock().0.get(&Subject::Pool).is_some_and(|running| running.is_late)
    }

    pub(crate) fn is_busy(&self, thin: ThinId) -> bool {
        self.lock().0.contains_key(&Subject::Thin(thin))
    }

    /// Those that are late, for people to see.
    pub(crate) fn late(&self) -> Vec<LateOperation> {
        let registry = self.lock();
        let late = registry.0.iter().filter(|(_subject, running)| running.is_late);
        late.map(|(subject, running)| LateOperation {
            thin: match subject {
                Subject::Pool => None,
                Subject::Thin(thin) => Some(*thin),
            },
            step: running.operation.step,
            seconds: running.since.elapsed().as_secs(),
        })
        .collect()
    }
}

impl Registry {
    /// Whether a request that names these devices may be served.
    pub(crate) fn admission(&self, thins: &[ThinId]) -> Admission {
        let mut admission = Admission::Go;
        for subject in thins.iter().copied().map(Subject::Thin) {
            match self.0.get(&subject) {
                Some(running) if running.is_late => return Admission::Late,
                Some(running) if !running.operation.is_shared => {
                    admission = Admission::After(subject);
                }
                Some(_) | None => {}
            }
        }
        admission
    }

    /// Has a job done when that operation ends, or is late.
    pub(crate) fn wait(&mut self, subject: Subject, job: Job) {
        if let Some(running) = self.0.get_mut(&subject) {
            running.waiting.push(job);
        }
    }
}

impl Running {
    fn tell(&self, event: &'static str, subject: Subject, more: &[(&str, &dyn Display)]) {
        let (step, seconds) = (self.operation.step.text(), self.since.elapsed().as_secs());
        let fields: [(&str, &dyn Display); 4] = [
            ("device", &subject),
            ("operation", &step),
            ("request", &self.operation.request),
            ("seconds", &seconds),
        ];
        audit::event(event, &[&fields[..], more].concat());
    }
}
