//! What holds for each state of each machine, and how many flows are in it now.

use std::time::Duration;

use airlock_protocol::control::{Fault, MachineView, MachinesView, QueueView, Setting, StateRules};

use super::engine::Engine;
use super::live::{Live, LiveFlow, Phase};
use super::machine::State as _;
use super::queue::Queue;
use super::rules::{Rules, Settings};
use super::step::Machine;
use super::{Activate, Download, Unpack};
use crate::config::QueuesConfig;
use crate::store::flow::FlowRow;
use crate::store::{flow, unsigned};

impl Engine {
    /// Every machine with its states, and every queue.
    pub async fn machines(&self) -> Result<MachinesView, Fault> {
        let world = self.world();
        let flows = self.read_past(flow::unfinished).await.map_err(|error| error.fault())?;
        let settings = world.settings.as_ref();
        let machines = [
            machine::<Download>(settings, &flows, &world.live),
            machine::<Unpack>(settings, &flows, &world.live),
            machine::<Activate>(settings, &flows, &world.live),
        ];
        let queues = Queue::ALL.map(|queue| {
            let default = queue.limit(&QueuesConfig::default());
            let limit = Setting { value: world.queues.limit(queue), default };
            let states = machines.iter().flat_map(|machine| &machine.states);
            let mine = states.filter(|state| state.queue.as_deref() == Some(queue.name()));
            let none = QueueView { queue: queue.name().to_owned(), limit, running: 0, queued: 0 };
            mine.fold(none, |sum, state| QueueView {
                running: sum.running.saturating_add(state.running),
                queued: sum.queued.saturating_add(state.queued),
                ..sum
            })
        });
        let default = Settings::default().backoff.factor;
        let wait_factor = Setting { value: settings.backoff.factor, default };
        Ok(MachinesView { machines: machines.into(), queues: queues.into(), wait_factor })
    }
}

fn machine<M: Machine>(settings: &Settings, flows: &[FlowRow], live: &Live) -> MachineView {
    let name = <M::State as super::machine::State>::MACHINE;
    let lasting = <M::State as super::machine::State>::ALL.iter().filter(|state| !state.is_end());
    let states = lasting.map(|state| {
        let mut shown =
            rules(state.name(), M::rules(*state, settings), M::rules(*state, &Settings::default()));
        let here = flows.iter().filter(|row| row.machine == name && row.state == state.name());
        for row in here {
            let phase = live.find(row.id).map_or(Phase::Queued, |flow| LiveFlow::phase(&flow));
            let count = match phase {
                Phase::Queued => &mut shown.queued,
                Phase::Running => &mut shown.running,
                Phase::Waiting => &mut shown.waiting,
            };
            *count = count.saturating_add(1);
        }
        shown
    });
    MachineView { machine: name.to_owned(), states: states.collect() }
}

fn rules(state: &str, value: Rules, default: Rules) -> StateRules {
    let attempts = Setting { value: value.attempts, default: default.attempts };
    let span = |of: fn(&Rules) -> Duration| Setting {
        value: millis(of(&value)),
        default: millis(of(&default)),
    };
    StateRules {
        state: state.to_owned(),
        attempts,
        deadline_ms: Setting {
            value: value.deadline.map(millis),
            default: default.deadline.map(millis),
        },
        first_wait_ms: span(|rules| rules.first_wait),
        longest_wait_ms: span(|rules| rules.longest_wait),
        queue: value.queue.map(|queue| queue.name().to_owned()),
        running: 0,
        queued: 0,
        waiting: 0,
    }
}

fn millis(span: Duration) -> u64 {
    unsigned(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}
