//! Machines and queues as programs read them.

use airlock_protocol::control::{MachineView, MachinesView, QueueView, Setting, StateRules};
use serde::Serialize;

/// Every machine and every queue.
#[derive(Debug, Serialize)]
pub(crate) struct MachinesItem {
    machines: Vec<MachineItem>,
    queues: Vec<QueueItem>,
    wait_factor: Setting<u32>,
}

impl From<MachinesView> for MachinesItem {
    fn from(view: MachinesView) -> Self {
        let MachinesView { machines, queues, wait_factor } = view;
        Self {
            machines: machines.into_iter().map(Into::into).collect(),
            queues: queues.into_iter().map(Into::into).collect(),
            wait_factor,
        }
    }
}

#[derive(Debug, Serialize)]
struct MachineItem {
    machine: String,
    states: Vec<StateItem>,
}

impl From<MachineView> for MachineItem {
    fn from(view: MachineView) -> Self {
        let states = view.states.into_iter().map(Into::into).collect();
        Self { machine: view.machine, states }
    }
}

#[derive(Debug, Serialize)]
struct StateItem {
    state: String,
    attempts: Setting<u32>,
    deadline_ms: Setting<Option<u64>>,
    first_wait_ms: Setting<u64>,
    longest_wait_ms: Setting<u64>,
    queue: Option<String>,
    running: u32,
    queued: u32,
    waiting: u32,
}

impl From<StateRules> for StateItem {
    fn from(rules: StateRules) -> Self {
        let StateRules {
            state,
            attempts,
            deadline_ms,
            first_wait_ms,
            longest_wait_ms,
            queue,
            running,
            queued,
            waiting,
        } = rules;
        Self {
            state,
            attempts,
            deadline_ms,
            first_wait_ms,
            longest_wait_ms,
            queue,
            running,
            queued,
            waiting,
        }
    }
}

#[derive(Debug, Serialize)]
struct QueueItem {
    queue: String,
    limit: Setting<Option<u32>>,
    running: u32,
    queued: u32,
}

impl From<QueueView> for QueueItem {
    fn from(view: QueueView) -> Self {
        let QueueView { queue, limit, running, queued } = view;
        Self { queue, limit, running, queued }
    }
}
