//! What a transaction sets going: done once it is committed, forgotten with it otherwise.

use std::collections::VecDeque;

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
    /// Whether a run is to begin at a time that was not known before.
    pub(super) wake: bool,
    /// Runs that ended, and whose end is still to bring about what it does.
    pub(super) over: VecDeque<RunId>,
    /// Whether somebody is at that.
    pub(super) at_it: bool,
}

/// How much there was at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark([usize; 5], [bool; 2]);

impl Effects {
    /// What there is now, to come back to.
    pub(super) fn mark(&self) -> Mark {
        let Self { start, stop, changed, set_aside, wake, over, at_it } = self;
        let lengths = [start.len(), stop.len(), changed.len(), set_aside.len(), over.len()];
        Mark(lengths, [*wake, *at_it])
    }

    /// Forgets what came since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        let Mark([start, stop, changed, set_aside, over], [wake, at_it]) = mark;
        self.start.truncate(start);
        self.stop.truncate(stop);
        self.changed.truncate(changed);
        self.set_aside.truncate(set_aside);
        self.over.truncate(over);
        (self.wake, self.at_it) = (wake, at_it);
    }
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
        if effects.wake {
            self.wake();
        }
    }
}
