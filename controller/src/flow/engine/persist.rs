//! The one transaction that moves a flow.

use super::super::chain;
use super::super::step::Write;
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
        let (row, started, touched) = inner
            .world
            .store
            .write(move |tx| {
                let id = step.from.id;
                let other = match joined {
                    Some(_) if step.subject != step.from.subject => {
                        flow::active(tx, &step.from.machine, &step.subject)?
                    }
                    Some(_) | None => None,
                };
                let mut started = Vec::new();
                if let (Some(other), Some((event, target))) = (other, joined) {
                    step.outcome = Some(format!("joined the one that is at {}", other.subject));
                    (step.event, step.target, step.ends) = (event, target, true);
                    step.subject.clone_from(&step.from.subject);
                    flow::advance(tx, &step)?;
                    for run in run::at_flow(tx, id)? {
                        run::attach(tx, &run.id, other.id)?;
                    }
                } else {
                    if let Some(write) = write {
                        write(tx)?;
                    }
                    flow::advance(tx, &step)?;
                    if step.ends {
                        started = chain::ended(tx, &flow::find(tx, id)?)?;
                    }
                }
                Ok((flow::find(tx, id)?, started, run::of_flow(tx, id)?))
            })
            .await?;
        inner.world.live.runs_changed(&touched);
        self.start(&started);
        Ok(row)
    }

    /// Runs that are at this flow and have not ended.
    pub async fn waiting_for(&self, id: FlowId) -> Result<usize, StoreFault> {
        self.0.world.store.read(move |tx| Ok(run::at_flow(tx, id)?.len())).await
    }
}
