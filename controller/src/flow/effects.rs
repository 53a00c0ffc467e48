//! What a transaction sets going: done once it is committed, forgotten with it otherwise.

use airlock_protocol::control::RunId;

use super::engine::Engine;
use crate::store::flow::FlowId;
use crate::store::unreadable::{BadRecord, Key};

/// What is to be done once a transaction is committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    /// Flows to start.
    pub(super) start: Vec<FlowId>,
    /// Flows to end.
    pub(super) stop: Vec<FlowId>,
    /// Runs that changed.
    pub(super) changed: Vec<RunId>,
    /// Records that were set aside.
    pub(super) set_aside: Vec<BadRecord>,
}

impl Engine {
    /// Does what a transaction has set going.
    pub(super) fn carry_out(&self, effects: &Effects) {
        for bad in &effects.set_aside {
            let BadRecord { key, code, why } = bad;
            tracing::error!(record = %key, code, why, "a record was set aside: all else goes on");
            if let Key::Flow(id) = key {
                self.cancel(*id);
            }
        }
        self.world().live.runs_changed(&effects.changed);
        for flow in &effects.stop {
            self.cancel(*flow);
        }
        self.start(&effects.start);
    }
}
