//! What wraps every attempt at every state: for figures, traces, logs and tests.

use std::fmt;
use std::time::Instant;

use futures::future::BoxFuture;

use super::super::step::StepFault;
use crate::store::Ending;
use crate::store::flow::FlowId;

/// What is attempted.
#[derive(Clone, Debug)]
pub struct About {
    /// The flow.
    pub flow: FlowId,
    /// Its machine.
    pub machine: &'static str,
    /// What it works on.
    pub subject: String,
    /// The state.
    pub state: &'static str,
    /// The attempt, from 1.
    pub attempt: u32,
    /// At the first attempt after a restart: how the daemon ended that made the one before.
    pub restarted: Option<Ending>,
}

/// What came of an attempt: the name of the event, or why there is none.
pub type Outcome = Result<&'static str, StepFault>;

/// Wraps every attempt at every state of every machine. The deadline and the catching of panics
/// are outside of it: what goes wrong here is a failed attempt.
pub trait Interceptor: fmt::Debug + Send + Sync {
    /// Makes the attempt, with whatever belongs before and after it.
    fn around<'a>(
        &'a self,
        about: &'a About,
        attempt: BoxFuture<'a, Outcome>,
    ) -> BoxFuture<'a, Outcome>;
}

/// Logs how long each attempt took, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durations;

impl Interceptor for Durations {
    fn around<'a>(
        &'a self,
        _about: &'a About,
        attempt: BoxFuture<'a, Outcome>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let began = Instant::now();
            let outcome = attempt.await;
            let event = outcome.as_ref().map_or("none", |event| event);
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            // The span around it has all the ids.
            tracing::debug!(event, took_ms, "attempted");
            outcome
        })
    }
}
