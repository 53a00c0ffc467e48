//! Flows by themselves: begun or joined by machine and subject, and waited for.

use airlock_policy::name::RequestId;
use airlock_protocol::control::Fault;

use super::super::effects::Effects;
use super::super::machine::State;
use super::super::step::Machine;
use super::super::unreadable::past;
use super::Engine;
use crate::store::flow::{FlowId, NewFlow};
use crate::store::{StoreFault, flow};

/// How a flow ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The flow.
    pub flow: FlowId,
    /// The state it ended in, or in which it was set aside.
    pub state: String,
    /// Why it failed, if it did.
    pub fault: Option<Fault>,
}

impl Engine {
    /// Begins a flow on a subject, or answers the one that is at it.
    pub async fn begin<M: Machine>(
        &self,
        subject: &str,
        input: &M::Input,
        request: &RequestId,
    ) -> Result<FlowId, StoreFault> {
        let new = NewFlow {
            machine: <M::State as State>::MACHINE,
            definition: M::DEFINITION,
            subject: subject.to_owned(),
            state: M::State::START.name(),
            input: serde_json::to_string(input)?,
            request: request.to_string(),
        };
        let begun = self.world().store.write(move |tx| {
            let mut effects = Effects::default();
            let same = past(tx, &mut effects, |tx| flow::active(tx, new.machine, &new.subject))?;
            if let Some(same) = same {
                return Ok((same.id, effects));
            }
            let id = flow::begin(tx, &new)?;
            effects.start.push(id);
            Ok((id, effects))
        });
        let (id, effects) = begun.await?;
        self.carry_out(&effects);
        Ok(id)
    }

    /// Waits for a flow's end, which may lie long back.
    pub async fn wait(&self, id: FlowId) -> Result<Ended, StoreFault> {
        let mut news = self.world().live.subscribe();
        loop {
            news.mark_unchanged();
            let row = self.read_past(move |tx| flow::find(tx, id)).await?;
            if row.ended_at.is_some() {
                let fault = row.fault.as_deref().map(serde_json::from_str).transpose()?;
                return Ok(Ended { flow: row.id, state: row.state, fault });
            }
            if news.changed().await.is_err() {
                return Err(StoreFault::Interrupted);
            }
        }
    }

    /// Waits for the end of the flow that works on a subject; of the last one, where none does.
    /// `None` where there never was one.
    pub async fn wait_for_subject<M: Machine>(
        &self,
        subject: &str,
    ) -> Result<Option<Ended>, StoreFault> {
        let (machine, subject) = (<M::State as State>::MACHINE, subject.to_owned());
        let newest = self.read_past(move |tx| flow::newest(tx, machine, &subject)).await?;
        match newest {
            Some(id) => self.wait(id).await.map(Some),
            None => Ok(None),
        }
    }
}
