//! The state machines that runs go through: what holds for each state, and how busy it is.

use serde::{Deserialize, Serialize};

/// A value that the configuration can change, beside what it is unless it does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Setting<T> {
    /// What holds.
    pub value: T,
    /// What holds where nothing is configured.
    pub default: T,
}

/// Every machine and every queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MachinesView {
    /// The machines, in the order in which a run comes to them.
    pub machines: Vec<MachineView>,
    /// The queues.
    pub queues: Vec<QueueView>,
    /// How much longer the next wait between attempts may be than the last.
    pub wait_factor: Setting<u32>,
}

/// A machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MachineView {
    /// Its name: `download`.
    pub machine: String,
    /// Its states, in order; those in which nothing more happens are left out.
    pub states: Vec<StateRules>,
}

/// A state.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StateRules {
    /// Its name: `check_exists`.
    pub state: String,
    /// Attempts in all.
    pub attempts: Setting<u32>,
    /// How long one attempt may take; `None` for as long as it goes on.
    pub deadline_ms: Setting<Option<u64>>,
    /// The longest that the first wait between attempts may be.
    pub first_wait_ms: Setting<u64>,
    /// The longest that any may be.
    pub longest_wait_ms: Setting<u64>,
    /// The queue whose turn it needs.
    pub queue: Option<String>,
    /// How many flows work in it.
    pub running: u32,
    /// How many wait for their turn.
    pub queued: u32,
    /// How many wait before their next attempt.
    pub waiting: u32,
}

/// A queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct QueueView {
    /// Its name: `downloads`.
    pub queue: String,
    /// How many may have their turn at the same time; `None` for as many as there are.
    pub limit: Setting<Option<u32>>,
    /// How many have it.
    pub running: u32,
    /// How many wait for it.
    pub queued: u32,
}
