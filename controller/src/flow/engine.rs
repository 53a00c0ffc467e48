//! The one loop that all flows go through: perform, then persist, until an end.
//!
//! Each persist is one transaction: it moves the flow (unless somebody else did), appends the step,
//! writes the domain's rows, and where the flow ends moves the runs that wait for it. Between two
//! persists nothing is remembered that the next start could not find out again.

mod guard;
mod intercept;
mod machines;
mod persist;
mod repeats;
mod settle;
mod single;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use airlock_policy::name::RequestId;
use airlock_protocol::control::ErrorClass;
use futures::FutureExt as _;
use rusqlite::Transaction;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::World;
use super::effects::Effects;
use super::live::Phase;
use super::machine::State as _;
use super::rules::random;
use super::schedule;
use super::step::{Machine, Step, StepFault, bug};
use super::unreadable::{alone, past, set_aside, understood};
use crate::fault::fault;
use crate::helper::internal_request;
use crate::store::flow::{FlowId, FlowRow};
use crate::store::run::Standing;
use crate::store::unreadable::{BadRecord, DAMAGED, Key};
use crate::store::{Ending, StoreFault, flow, run};
use guard::{keep_backtraces, within};
use intercept::Durations;
use machines::known;
use repeats::Repeats;
use settle::{Attempt, Settled};

pub use intercept::{About, Interceptor, Outcome};
pub use machines::Registered;
pub use single::Ended;

/// Runs flows.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    world: World,
    machines: Vec<Registered>,
    interceptors: Vec<Arc<dyn Interceptor>>,
    tracker: TaskTracker,
    stop: CancellationToken,
    cancels: Mutex<HashMap<FlowId, CancellationToken>>,
    clock: Notify,
    keeps_time: AtomicBool,
}

/// How often the daemon may die in one state of a flow before the flow is given up: what kills it
/// each time must not do so for ever.
const MAX_INTERRUPTIONS: u32 = 10;

/// How long a step that was told to end is waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long is waited while the database takes nothing.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// A flow as it is taken up.
#[derive(Debug)]
struct TakenUp {
    row: FlowRow,
    /// The runs that are at it.
    runs: Vec<String>,
    /// How the daemon ended that was at it before, if one was.
    restarted: Option<Ending>,
}

impl Engine {
    /// An engine of airlock's own machines, that runs nothing yet.
    pub fn new(world: World) -> Self {
        Self::with(world, Registered::all(), Vec::new())
    }

    /// An engine of these machines, each attempt wrapped by these interceptors, the first outermost.
    pub fn with(
        world: World,
        machines: Vec<Registered>,
        interceptors: Vec<Arc<dyn Interceptor>>,
    ) -> Self {
        keep_backtraces();
        let durations: Arc<dyn Interceptor> = Arc::new(Durations);
        Self(Arc::new(Inner {
            world,
            machines,
            interceptors: std::iter::once(durations).chain(interceptors).collect(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            cancels: Mutex::default(),
            clock: Notify::new(),
            keeps_time: AtomicBool::new(false),
        }))
    }

    /// What the flows work with.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Takes up every flow that has not ended, and sets aside what it cannot go on with. `unclean`:
    /// whether the daemon died.
    pub async fn resume(&self, unclean: bool) -> Result<usize, StoreFault> {
        let machines = self.0.machines.clone();
        let taken = self.0.world.store.write(move |tx| take_up(tx, &machines, unclean));
        let (found, effects) = taken.await?;
        self.carry_out(&effects);
        for row in &found {
            tracing::info!(flow = row.id, machine = row.machine, state = row.state, "resumed");
            self.go(row.id, self.0.world.store.epoch().before);
        }
        self.wake();
        Ok(found.len())
    }

    /// Starts to drive these flows.
    pub fn start(&self, flows: &[FlowId]) {
        for id in flows {
            self.go(*id, None);
        }
    }

    /// Tells a flow to end as cancelled.
    pub fn cancel(&self, id: FlowId) {
        self.token(id).cancel();
    }

    /// Whether the engine stops, and takes nothing new on.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Stops: lets each flow reach its next persist, or gives it up where that takes long. What is
    /// not done by then goes on at the next start. Answers whether all came to a rest in time.
    pub async fn drain(&self, at_most: Duration) -> bool {
        self.0.stop.cancel();
        self.0.tracker.close();
        tokio::time::timeout(at_most, self.0.tracker.wait()).await.is_ok()
    }

    /// Sees to it that what is to begin later begins.
    pub(super) fn wake(&self) {
        if !self.0.keeps_time.swap(true, Ordering::Relaxed) {
            self.0.tracker.spawn(self.clone().keep_time());
        }
        self.0.clock.notify_one();
    }

    /// Sleeps so long, until it is woken, or until the engine stops.
    pub(super) async fn sleep_or_wake(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.0.clock.notified() => {}
            () = self.0.stop.cancelled() => {}
        }
    }

    fn token(&self, id: FlowId) -> CancellationToken {
        let mut cancels = self.0.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        cancels.entry(id).or_default().clone()
    }

    fn go(&self, id: FlowId, restarted: Option<Ending>) {
        let engine = self.clone();
        let token = self.token(id);
        self.0.tracker.spawn(async move {
            if let Err(error) = engine.drive(id, restarted, token).await {
                engine.stuck(id, error).await;
            }
            engine.0.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            engine.0.world.live.forget(id);
        });
    }

    async fn drive(
        &self,
        id: FlowId,
        restarted: Option<Ending>,
        cancel: CancellationToken,
    ) -> Result<(), StoreFault> {
        let read = move |tx: &Transaction<'_>| Ok((flow::find(tx, id)?, run::ids_at(tx, id)?));
        let (row, runs) = self.0.world.store.read(read).await?;
        self.drive_by_name(TakenUp { row, runs, restarted }, cancel).await
    }

    /// Takes a flow through its machine, up to its end or the daemon's.
    async fn through<M: Machine>(
        &self,
        taken_up: TakenUp,
        cancel: CancellationToken,
    ) -> Result<(), StoreFault> {
        let TakenUp { mut row, runs, mut restarted } = taken_up;
        let mut runs = Some(runs);
        let live = self.0.world.live.flow(row.id);
        let mut repeats = Repeats::default();
        while row.ended_at.is_none() && !self.is_stopping() {
            let (state, input, data) = match understood::<M>(&row) {
                Ok(understood) => understood,
                Err(bad) => return self.set_aside(bad).await,
            };
            let request = RequestId::try_from(row.request.clone());
            let request = request.unwrap_or_else(|_invalid| internal_request());
            // A step ends when its run is cancelled, and one that would take long also when the
            // daemon stops.
            let told_to_end = cancel.child_token();
            let about = About {
                flow: row.id,
                machine: <M::State as super::machine::State>::MACHINE,
                subject: row.subject.clone(),
                state: state.name(),
                attempt: row.attempt,
                restarted: std::mem::take(&mut restarted),
            };
            let span = self.span::<M>(&row, (&input, &data), runs.take()).await;
            let mut step = Step::<M>::new(&input, data, request, Arc::clone(&live), told_to_end);
            step.attempt = row.attempt;
            step.restarted = about.restarted;
            let started_at = crate::store::now();
            let outcome = if row.interruptions >= MAX_INTERRUPTIONS {
                Err(StepFault::Unrecoverable(fault(
                    ErrorClass::Internal,
                    "run.interrupted",
                    format!("the daemon died {MAX_INTERRUPTIONS} times in {}", row.state),
                )))
            } else if cancel.is_cancelled() {
                Err(StepFault::Cancelled)
            } else {
                self.attempt((state, &about), &mut step, &cancel).instrument(span).await
            };
            let made = Attempt { row, state, step, started_at, repeats: &mut repeats };
            match self.settle(made, outcome, &cancel).await? {
                Settled::At(next) => row = *next,
                Settled::Left => break,
            }
        }
        Ok(())
    }

    /// Makes one attempt: in its turn, within its deadline, whatever it does.
    async fn attempt<M: Machine>(
        &self,
        (state, about): (M::State, &About),
        step: &mut Step<'_, M>,
        cancel: &CancellationToken,
    ) -> Result<<M::State as super::machine::State>::Event, StepFault> {
        let (world, drain) = (&self.0.world, &self.0.stop);
        let rules = M::rules(state, &world.settings);
        let live = Arc::clone(&step.live);
        let ends = step.cancel.clone();
        // However the attempt ends, what it set going elsewhere ends with it.
        let _all = ends.clone().drop_guard();
        let _turn = match rules.queue {
            None => None,
            Some(queue) => {
                world.live.enter(&live, Phase::Queued);
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(StepFault::Cancelled),
                    () = drain.cancelled() => return Err(StepFault::Cancelled),
                    turn = world.queues.turn(queue) => turn,
                }
            }
        };
        world.live.enter(&live, Phase::Running);
        let event = Mutex::new(None);
        let kept = &event;
        let work = async move {
            let happened = M::perform(world, state, step).await?;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(happened);
            Ok(super::machine::Event::name(happened))
        };
        let interceptors = self.0.interceptors.iter().rev();
        let work = interceptors.fold(work.boxed(), |work, one| one.around(about, work));
        let work = within(rules.deadline, state.name(), AssertUnwindSafe(work).catch_unwind());
        tokio::pin!(work);
        let stopped = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = drain.cancelled(), if rules.gives_way => {}
            }
            ends.cancel();
            tokio::time::sleep(LAST_WORDS).await;
        };
        let news = self.tell(&live);
        tokio::select! {
            biased;
            outcome = &mut work => outcome?,
            () = stopped => return Err(StepFault::Cancelled),
            () = news => return Err(StepFault::Cancelled),
        };
        let happened = event.lock().unwrap_or_else(PoisonError::into_inner).take();
        happened.ok_or_else(|| bug("an interceptor answered in a step's place"))
    }

    /// What every line of an attempt carries: the ids of all that it belongs to.
    async fn span<M: Machine>(
        &self,
        row: &FlowRow,
        (input, data): (&M::Input, &M::Data),
        runs: Option<Vec<String>>,
    ) -> tracing::Span {
        let FlowRow { id, machine, subject, state, attempt, request, .. } = row;
        let flow = *id;
        let runs = if let Some(runs) = runs {
            runs
        } else {
            // Others may have come to wait for it since.
            let runs = self.0.world.store.read(move |tx| run::ids_at(tx, flow)).await;
            runs.unwrap_or_default()
        };
        let runs = runs.join(" ");
        let (image, digest) = M::image(input, data);
        tracing::info_span!(
            "step",
            runs,
            flow = id,
            machine,
            subject,
            image,
            digest,
            state,
            attempt,
            request
        )
    }

    /// Wakes watchers while a step makes progress, five times a second. Never ends.
    async fn tell(&self, live: &super::live::LiveFlow) {
        let mut told = (0, None);
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = (live.done(), live.entries());
            if now != told {
                told = now;
                self.0.world.live.changed(live);
            }
        }
    }

    /// Waits before the next attempt. Answers whether there is to be one.
    async fn rest(&self, wait: Duration, cancel: &CancellationToken) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = cancel.cancelled() => true,
            () = self.0.stop.cancelled() => false,
        }
    }
}

/// Takes up every flow that has not ended: from now on it is this daemon's. What cannot be gone on
/// with is set aside, one record at a time; a run that nothing would ever move is ended.
fn take_up(
    tx: &Transaction<'_>,
    machines: &[Registered],
    unclean: bool,
) -> Result<(Vec<FlowRow>, Effects), StoreFault> {
    let (mut found, mut effects) = (Vec::new(), Effects::default());
    for id in flow::going_on(tx)? {
        let row = match flow::find(tx, id) {
            Ok(row) => row,
            Err(StoreFault::Record(bad)) => {
                set_aside(tx, &bad, &mut effects)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Err(bad) = known(machines, &row) {
            set_aside(tx, &bad, &mut effects)?;
            continue;
        }
        let taken = alone(tx, Key::Flow(id), &mut effects, |_effects| {
            flow::take_up(tx, id)?;
            if unclean {
                flow::note_interruption(tx, &row)?;
            }
            Ok(())
        })?;
        if taken {
            found.push(row);
        }
    }
    past(tx, &mut effects, run::read_all)?;
    for run in past(tx, &mut effects, run::stranded)? {
        let key = Key::Run(run.id.as_str().into());
        let bad = BadRecord { key, code: DAMAGED, why: "its flow has ended without it".to_owned() };
        schedule::finish(tx, &run.id, Standing::Failed, Some(&bad.fault()), &mut effects)?;
    }
    schedule::take_up(tx, &mut effects)?;
    Ok((found, effects))
}
