//! What a step of a machine gets, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use airlock_policy::name::RequestId;
use airlock_protocol::control::{ErrorClass, Fault, SubStep, Timing};
use rusqlite::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::World;
use super::live::LiveFlow;
use super::machine::State;
use super::rules::{Rules, Settings};
use crate::fault::fault;
use crate::helper::HelperFault;
use crate::store::{Ending, StoreFault};

/// A state machine and what it does in each state.
///
/// Every step may be carried out again from its start, whatever part of it was done before: the
/// daemon may die at any instruction, and only what [`Step::write`] says is durable with the move.
pub trait Machine: Send + Sync + 'static {
    /// Its states.
    type State: State;
    /// What it is begun with.
    type Input: Serialize + DeserializeOwned + Send + Sync;
    /// What its steps find out, kept from step to step.
    type Data: Serialize + DeserializeOwned + Default + Clone + Send + Sync;
    /// Raised whenever a flow that was begun before could not go on with this code.
    const DEFINITION: u32;
    /// What ends a flow whose subject another flow is at: event and state.
    const JOINED: Option<(<Self::State as State>::Event, Self::State)>;

    /// The rules of a state, with the numbers of these settings.
    fn rules(state: Self::State, settings: &Settings) -> Rules;

    /// The image that a flow is about, and its digest, as far as they are known: for the log.
    fn image(_input: &Self::Input, _data: &Self::Data) -> (Option<String>, Option<String>) {
        (None, None)
    }

    /// Does what is to be done in a state.
    fn perform(
        world: &World,
        state: Self::State,
        step: &mut Step<'_, Self>,
    ) -> impl Future<Output = Result<<Self::State as State>::Event, StepFault>> + Send;

    /// Takes back, as far as it can, what a flow leaves that fails or is cancelled.
    fn clean_up(
        world: &World,
        state: Self::State,
        step: &mut Step<'_, Self>,
    ) -> impl Future<Output = ()> + Send;
}

/// What becomes durable in the same transaction as the move.
pub type Write = Box<dyn FnOnce(&Transaction<'_>) -> Result<(), StoreFault> + Send>;

/// One attempt at one state.
pub struct Step<'a, M: Machine + ?Sized> {
    /// What the flow was begun with.
    pub input: &'a M::Input,
    /// What the steps have found so far; what is added here is kept with the move.
    pub data: M::Data,
    /// The attempt, from 1.
    pub attempt: u32,
    /// At the first attempt after a restart: how the daemon ended that made the one before. After
    /// [`Ending::Rebooted`] no device and no mount is left.
    pub restarted: Option<Ending>,
    /// Raised when the attempt is to end: the run was cancelled, or the daemon stops.
    pub cancel: CancellationToken,
    /// Where to say how far it is.
    pub live: Arc<LiveFlow>,
    /// The operator's request that it is done for.
    pub request: RequestId,
    /// One line of what came of it.
    pub note: Option<String>,
    /// What of the attempt was measured by itself; durable with the move.
    pub timings: Vec<Timing>,
    write: Option<Write>,
    subject: Option<String>,
}

impl<M: Machine> std::fmt::Debug for Step<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl<'a, M: Machine> Step<'a, M> {
    pub(super) fn new(
        input: &'a M::Input,
        data: M::Data,
        request: RequestId,
        live: Arc<LiveFlow>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            input,
            data,
            attempt: 1,
            restarted: None,
            cancel,
            live,
            request,
            note: None,
            timings: Vec::new(),
            write: None,
            subject: None,
        }
    }

    /// Writes this in the same transaction as the move.
    pub fn write(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> Result<(), StoreFault> + Send + 'static,
    ) {
        self.write = Some(Box::new(write));
    }

    /// Notes how long a part of the attempt took. What a part did in several goes is added up.
    pub fn took(&mut self, part: SubStep, bytes: Option<u64>, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match self.timings.iter_mut().find(|timing| timing.part == part) {
            Some(timing) => {
                timing.took_us = timing.took_us.saturating_add(took_us);
                let sum = |bytes: u64| timing.bytes.unwrap_or(0).saturating_add(bytes);
                timing.bytes = bytes.map(sum).or(timing.bytes);
            }
            None => self.timings.push(Timing { part, bytes, took_us }),
        }
    }

    /// Works on this subject from now on. If another flow is at it, this one joins that.
    pub fn rename(&mut self, subject: String) {
        self.subject = Some(subject);
    }

    pub(super) fn take(&mut self) -> (Option<Write>, Option<String>) {
        (self.write.take(), self.subject.take())
    }
}

/// Who is to blame for what cannot be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// What was asked cannot be.
    User,
    /// It could be, but not by this airlock on this host today.
    System,
}

impl Blame {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::User => "what was asked",
            Self::System => "airlock or its surroundings",
        }
    }
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub enum StepFault {
    /// It may work when it is tried again.
    Again {
        /// Why it did not.
        fault: Fault,
        /// Whether it came further than the attempts before: then they do not count.
        progressed: bool,
        /// How long to wait at least.
        after: Option<Duration>,
    },
    /// It cannot be done, by what was asked: a policy, a rule, an absent object.
    Abort(Fault),
    /// It cannot be done, and airlock or the host is to blame.
    Unrecoverable(Fault),
    /// It was told to end.
    Cancelled,
}

impl StepFault {
    /// It may work when it is tried again.
    pub fn again(fault: Fault) -> Self {
        Self::Again { fault, progressed: false, after: None }
    }

    /// Says whether the attempt came further than those before.
    #[must_use]
    pub fn having_progressed(self, further: bool) -> Self {
        match self {
            Self::Again { fault, after, progressed: _ } => {
                Self::Again { fault, progressed: further, after }
            }
            Self::Abort(_) | Self::Unrecoverable(_) | Self::Cancelled => self,
        }
    }

    /// Adds to the fault of what cannot be done.
    #[must_use]
    pub fn abort_with(self, add: impl FnOnce(Fault) -> Fault) -> Self {
        match self {
            Self::Abort(fault) => Self::Abort(add(fault)),
            Self::Again { .. } | Self::Unrecoverable(_) | Self::Cancelled => self,
        }
    }

    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unrecoverable(_) | Self::Cancelled => Blame::System,
            Self::Again { fault, .. } | Self::Abort(fault) => match fault.class {
                ErrorClass::Usage
                | ErrorClass::Refused
                | ErrorClass::NotFound
                | ErrorClass::Conflict => Blame::User,
                ErrorClass::Internal
                | ErrorClass::Unavailable
                | ErrorClass::Busy
                | ErrorClass::Timeout => Blame::System,
            },
        }
    }

    /// A fault of the helper, met while doing `what`.
    pub fn helper(error: &HelperFault, what: &str) -> Self {
        let fault = error.fault(what);
        if error.is_retryable() { Self::again(fault) } else { Self::by_class(fault) }
    }

    /// It cannot be done: the class says who is to blame.
    pub fn by_class(fault: Fault) -> Self {
        match fault.class {
            ErrorClass::Internal => Self::Unrecoverable(fault),
            ErrorClass::Usage
            | ErrorClass::Refused
            | ErrorClass::NotFound
            | ErrorClass::Unavailable
            | ErrorClass::Conflict
            | ErrorClass::Busy
            | ErrorClass::Timeout => Self::Abort(fault),
        }
    }
}

impl From<StoreFault> for StepFault {
    fn from(error: StoreFault) -> Self {
        Self::again(error.fault())
    }
}

/// The fault of a step that met what only a bug of airlock brings about.
pub fn bug(what: &str) -> StepFault {
    StepFault::Unrecoverable(fault(ErrorClass::Internal, "internal.bug", what))
}
