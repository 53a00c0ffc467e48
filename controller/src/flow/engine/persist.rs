//! The one transaction that moves a flow.

use super::super::chain;
use super::super::effects::Effects;
use super::super::step::Write;
use super::super::unreadable::past;
use super::Engine;
use crate::store::flow::{FlowId, FlowRow, Move};
use crate::store::{StoreFault, flow, run};

impl Engine {
    /// Moves a flow, or, where another flow is at its new subject, ends it as `joined` and puts its
    /// runs there. Answers the flow as it is then.
    pub(super) async fn persist(
        &self,
        mut step: Move,
        write: Option<Write>,
        joined: Option<(&'static str, &'static str)>,
    ) -> Result<FlowRow, StoreFault> {
        let inner = &self.0;
        let (row, effects) = inner
            .world
            .store
            .write(move |tx| {
                let id = step.from.id;
                let mut effects = Effects::default();
                let other = match joined {
                    Some(_) if step.subject != step.from.subject => {
                        let (machine, subject) = (&step.from.machine, &step.subject);
                        past(tx, &mut effects, |tx| flow::active(tx, machine, subject))?
                    }
                    Some(_) | None => None,
                };
                if let (Some(other), Some((event, target))) = (other, joined) {
                    step.outcome = Some(format!("joined the one that is at {}", other.subject));
                    (step.event, step.target, step.ends) = (event, target, true);
                    step.subject.clone_from(&step.from.subject);
                    flow::advance(tx, &step)?;
                    for run in past(tx, &mut effects, |tx| run::at_flow(tx, id))? {
                        run::attach(tx, &run.id, other.id)?;
                    }
                } else {
                    if let Some(write) = write {
                        write(tx)?;
                    }
                    flow::advance(tx, &step)?;
                    if step.ends {
                        chain::ended(tx, &flow::find(tx, id)?, &mut effects)?;
                    }
                }
                effects.changed.extend(run::of_flow(tx, id)?);
                Ok((flow::find(tx, id)?, effects))
            })
            .await?;
        self.carry_out(&effects);
        Ok(row)
    }

    /// Runs that are at this flow and have not ended.
    pub async fn waiting_for(&self, id: FlowId) -> Result<usize, StoreFault> {
        self.read_past(move |tx| Ok(run::at_flow(tx, id)?.len())).await
    }
}
