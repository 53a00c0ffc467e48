//! What an attempt's outcome means for its flow.

use std::time::Duration;

use airlock_protocol::control::{ErrorClass, Fault};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::repeats::Repeats;
use super::{Engine, STORE_WAIT, random};
use crate::fault::{Explain as _, fault};
use crate::flow::live::Phase;
use crate::flow::machine::{AGAIN, Event, State};
use crate::flow::step::{Machine, Step, StepFault, bug};
use crate::store::StoreFault;
use crate::store::flow::{FlowRow, Move};

/// Where an attempt has left its flow.
pub(super) enum Settled {
    /// In this state, to go on.
    At(Box<FlowRow>),
    /// Where it was: the daemon stops.
    Left,
}

/// An attempt that was made.
pub(super) struct Attempt<'a, M: Machine> {
    /// The flow as it was read.
    pub(super) row: FlowRow,
    /// Its state.
    pub(super) state: M::State,
    /// What the step leaves.
    pub(super) step: Step<'a, M>,
    /// When it began.
    pub(super) started_at: i64,
    /// What the flow has logged last.
    pub(super) repeats: &'a mut Repeats,
}

/// A move, without what all moves have in common.
struct Turn {
    event: &'static str,
    target: &'static str,
    attempt: u32,
    ends: bool,
    fault: Option<Fault>,
    /// How long to wait before the next attempt, where there is to be one.
    wait: Option<Duration>,
}

impl Engine {
    /// Makes an attempt's outcome durable, and waits where another attempt follows.
    pub(super) async fn settle<M: Machine>(
        &self,
        mut made: Attempt<'_, M>,
        outcome: Result<<M::State as State>::Event, StepFault>,
        cancel: &CancellationToken,
    ) -> Result<Settled, StoreFault> {
        let Some(turn) = self.judge(&mut made, outcome, cancel).await else {
            return Ok(Settled::Left);
        };
        log(&made.row, &turn, made.repeats);
        if turn.wait.is_none() {
            made.step.live.leaves();
        }
        let Err(error) = self.take(&mut made, &turn).await.map(|row| made.row = row) else {
            let Some(wait) = turn.wait else { return Ok(Settled::At(Box::new(made.row))) };
            self.0.world.live.enter(&made.step.live, Phase::Waiting);
            let goes_on = self.rest(wait, cancel).await;
            return Ok(if goes_on { Settled::At(Box::new(made.row)) } else { Settled::Left });
        };
        if matches!(error, StoreFault::Superseded) {
            // Whatever else is under way here is another daemon's by now.
            self.0.stop.cancel();
        }
        if matches!(error, StoreFault::Moved | StoreFault::Interrupted | StoreFault::Superseded) {
            return Err(error);
        }
        let fault = error.fault();
        let FlowRow { id, state, .. } = &made.row;
        tracing::error!(flow = id, state, code = fault.code, cause = ?fault.cause, "failed to persist");
        self.0.world.live.excuse(&made.step.live, fault.clone());
        if !self.rest(STORE_WAIT, cancel).await {
            return Ok(Settled::Left);
        }
        // The state was not left. Once the database takes something again, the state is done
        // again, which by its contract does no harm.
        if !error.may_pass() {
            let turn = end::<M>(made.state, <M::State as State>::Event::FAILED, Some(fault));
            made.row = self.take(&mut made, &turn).await?;
        }
        Ok(Settled::At(Box::new(made.row)))
    }

    /// What an outcome means; `None` where the daemon stops and the flow stays where it is.
    async fn judge<M: Machine>(
        &self,
        made: &mut Attempt<'_, M>,
        outcome: Result<<M::State as State>::Event, StepFault>,
        cancel: &CancellationToken,
    ) -> Option<Turn> {
        let (state, attempts) = (made.state, made.row.attempt);
        let rules = M::rules(state, &self.0.world.settings);
        let error = match outcome.and_then(|event| next::<M>(state, event)) {
            Ok(turn) => return Some(turn),
            Err(error) => error,
        };
        // What a step wanted written belongs to the move that it asked for, and to no other.
        drop(made.step.take());
        if cancel.is_cancelled() {
            M::clean_up(&self.0.world, state, &mut made.step).await;
            return Some(end::<M>(state, <M::State as State>::Event::CANCELLED, None));
        }
        if self.is_stopping() {
            return None;
        }
        let blame = error.blame();
        let fault = match error {
            StepFault::Again { fault, progressed, after }
                if progressed || attempts < rules.attempts =>
            {
                let pause = rules.wait(attempts, random()).max(after.unwrap_or_default());
                return Some(Turn {
                    event: AGAIN,
                    target: state.name(),
                    attempt: if progressed { 1 } else { attempts.saturating_add(1) },
                    ends: false,
                    fault: Some(fault),
                    wait: Some(pause),
                });
            }
            StepFault::Again { fault, .. } if attempts > 1 => {
                fault.fact("tried", format!("{attempts} times"))
            }
            StepFault::Again { fault, .. }
            | StepFault::Abort(fault)
            | StepFault::Unrecoverable(fault) => fault,
            // Only of a step that ended itself so without being told to.
            StepFault::Cancelled => fault(
                ErrorClass::Internal,
                "internal.bug",
                "a step ended as cancelled, and nobody had cancelled it",
            ),
        };
        M::clean_up(&self.0.world, state, &mut made.step).await;
        let fault = fault.fact("lies with", blame.words());
        Some(end::<M>(state, <M::State as State>::Event::FAILED, Some(fault)))
    }

    async fn take<M: Machine>(
        &self,
        made: &mut Attempt<'_, M>,
        turn: &Turn,
    ) -> Result<FlowRow, StoreFault> {
        let Attempt { row, step, started_at, .. } = made;
        let (write, subject) = step.take();
        let Turn { event, target, attempt, ends, fault, wait: _ } = turn;
        let moved = Move {
            event,
            target,
            attempt: *attempt,
            ends: *ends,
            subject: subject.unwrap_or_else(|| row.subject.clone()),
            data: merged(&row.data, &step.data)?,
            fault: fault.as_ref().map(serde_json::to_string).transpose()?,
            started_at: *started_at,
            outcome: fault.as_ref().map(|f| f.message.clone()).or_else(|| step.note.clone()),
            timings: step.timings.clone(),
            from: row.clone(),
        };
        let joined = M::JOINED.map(|(event, state)| (event.name(), state.name()));
        self.persist(moved, write, joined).await
    }
}

/// The move that an event brings about.
fn next<M: Machine>(state: M::State, event: <M::State as State>::Event) -> Result<Turn, StepFault> {
    let target = state.after(event).map_err(|illegal| bug(&illegal.to_string()))?;
    Ok(Turn {
        event: event.name(),
        target: target.name(),
        attempt: 1,
        ends: target.is_end(),
        fault: None,
        wait: None,
    })
}

/// The move to an end that is not the wanted one. Every machine's table has it for every state.
fn end<M: Machine>(
    state: M::State,
    event: <M::State as State>::Event,
    fault: Option<Fault>,
) -> Turn {
    let target = state.after(event).map_or(state.name(), State::name);
    Turn { event: event.name(), target, attempt: 1, ends: true, fault, wait: None }
}

/// What a step has found, added to what those before have: what this version does not know of, or
/// did not look at, stays.
fn merged(before: &str, found: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut all: Map<String, Value> = serde_json::from_str(before)?;
    if let Value::Object(found) = serde_json::to_value(found)? {
        for (name, value) in found {
            if !value.is_null() || !all.contains_key(&name) {
                all.insert(name, value);
            }
        }
    }
    serde_json::to_string(&all)
}

fn log(row: &FlowRow, turn: &Turn, repeats: &mut Repeats) {
    let FlowRow { id, machine, subject, state, attempt, request, .. } = row;
    let event = turn.event;
    if let Some(fault) = turn.fault.as_ref().filter(|_| turn.wait.is_some())
        && repeats.counts(fault)
    {
        return;
    }
    if let Some(times) = repeats.end(turn.fault.as_ref()) {
        tracing::warn!(flow = id, state, "the last error came {times} more times, word for word");
    }
    match &turn.fault {
        None => tracing::debug!(flow = id, machine, subject, state, attempt, request, event),
        Some(fault) => {
            let Fault { code, message, cause, .. } = fault;
            tracing::warn!(
                flow = id,
                machine,
                subject,
                state,
                attempt,
                request,
                event,
                code,
                message,
                ?cause
            );
        }
    }
}
