//! What is known of flows while they go on, and is not worth a transaction: bytes, entries, phase.
//!
//! Everything that changes raises one counter, so a watcher can wait for "newer than what I saw".

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use airlock_protocol::control::{Fault, RunId};
use tokio::sync::watch;

use crate::store::flow::FlowId;
use crate::store::{now, unsigned};

/// Whether a flow works or waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Phase {
    /// It waits for its turn.
    Queued = 0,
    /// It works.
    Running = 1,
    /// It waits before it tries again.
    Waiting = 2,
}

/// How far a flow is.
#[derive(Debug)]
pub struct LiveFlow {
    phase: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
    entries: AtomicU64,
    started_at: AtomicI64,
    changed: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

/// How many runs are remembered by when they changed: mostly more than go on at once.
const MAX_RUNS: usize = 4096;

/// What stands for "not known".
const UNKNOWN: u64 = u64::MAX;

impl LiveFlow {
    fn new(changed: u64) -> Self {
        Self {
            phase: AtomicU8::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            entries: AtomicU64::new(UNKNOWN),
            started_at: AtomicI64::new(now()),
            changed: AtomicU64::new(changed),
            fault: Mutex::default(),
        }
    }

    /// Notes how far the present state is.
    pub fn progress(&self, done: u64, total: Option<u64>, entries: Option<u64>) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.entries.store(entries.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Notes that its state is left: the next one may have to wait for its turn. Wakes nobody.
    pub(super) fn leaves(&self) {
        self.phase.store(Phase::Queued as u8, Ordering::Relaxed);
    }

    /// Whether it works or waits.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Running,
            2 => Phase::Waiting,
            _ => Phase::Queued,
        }
    }

    /// Bytes done in the present state.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes in all, where known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }

    /// Entries done, where it counts any.
    pub fn entries(&self) -> Option<u64> {
        Some(self.entries.load(Ordering::Relaxed)).filter(|entries| *entries != UNKNOWN)
    }

    /// When the present attempt began.
    pub fn started_at(&self) -> i64 {
        self.started_at.load(Ordering::Relaxed)
    }

    /// The counter when something changed last.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Why it waits, where the database could not be told.
    pub fn fault(&self) -> Option<Fault> {
        lock(&self.fault).clone()
    }
}

/// All flows that go on.
#[derive(Debug)]
pub struct Live {
    counter: watch::Sender<u64>,
    flows: Mutex<HashMap<FlowId, Arc<LiveFlow>>>,
    runs: Mutex<HashMap<RunId, u64>>,
    born: u64,
}

impl Default for Live {
    fn default() -> Self {
        // By the clock, so that it goes on rising over a restart of the daemon.
        let born = unsigned(now());
        Self {
            counter: watch::Sender::new(born),
            flows: Mutex::default(),
            runs: Mutex::default(),
            born,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// The flow's record, made where there is none.
    pub fn flow(&self, id: FlowId) -> Arc<LiveFlow> {
        let fresh = || Arc::new(LiveFlow::new(self.born));
        Arc::clone(lock(&self.flows).entry(id).or_insert_with(fresh))
    }

    /// The flow's record, while it goes on.
    pub fn find(&self, id: FlowId) -> Option<Arc<LiveFlow>> {
        lock(&self.flows).get(&id).map(Arc::clone)
    }

    /// Notes what a flow is about to do.
    pub fn enter(&self, flow: &LiveFlow, phase: Phase) {
        flow.phase.store(phase as u8, Ordering::Relaxed);
        if phase == Phase::Running {
            flow.started_at.store(now(), Ordering::Relaxed);
            flow.progress(0, None, None);
            *lock(&flow.fault) = None;
        }
        self.changed(flow);
    }

    /// Notes why a flow waits.
    pub fn excuse(&self, flow: &LiveFlow, fault: Fault) {
        *lock(&flow.fault) = Some(fault);
        self.enter(flow, Phase::Waiting);
    }

    /// Wakes those who watch a flow.
    pub fn changed(&self, flow: &LiveFlow) {
        flow.changed.store(self.raise(), Ordering::Relaxed);
    }

    /// Wakes those who watch these runs.
    pub fn runs_changed(&self, changed: &[RunId]) {
        // Whoever is woken by the counter finds the versions.
        let mut runs = lock(&self.runs);
        let version = self.raise();
        for run in changed {
            runs.insert(run.clone(), version);
        }
        if runs.len() > MAX_RUNS {
            forget_older_half(&mut runs);
        }
    }

    /// Forgets a flow that ended.
    pub fn forget(&self, id: FlowId) {
        lock(&self.flows).remove(&id);
    }

    /// The counter when a run changed last, its flows not counted.
    pub fn version(&self, run: &RunId) -> u64 {
        lock(&self.runs).get(run).copied().unwrap_or(self.born)
    }

    /// Something to wait on for the next change of anything.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.counter.subscribe()
    }

    fn raise(&self) -> u64 {
        let mut raised = 0;
        self.counter.send_modify(|counter| {
            *counter = counter.saturating_add(1);
            raised = *counter;
        });
        raised
    }
}

/// Whoever watches one that is forgotten waits for its next change, as before.
fn forget_older_half(runs: &mut HashMap<RunId, u64>) {
    let mut versions: Vec<u64> = runs.values().copied().collect();
    let half = versions.len() / 2;
    let (_, middle, _) = versions.select_nth_unstable(half);
    let middle = *middle;
    runs.retain(|_, version| *version >= middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_last_is_remembered_of_any_number_of_runs() {
        let live = Live::default();
        let id = |n: usize| -> RunId { format!("k{n:07}").parse().unwrap() };
        for n in 0..10 * MAX_RUNS {
            live.runs_changed(&[id(n)]);
        }
        assert!(lock(&live.runs).len() <= MAX_RUNS);
        let newest = 10 * MAX_RUNS - 1;
        let versions = [newest - MAX_RUNS / 2, newest - 1, newest].map(|n| live.version(&id(n)));
        assert!(versions.is_sorted() && versions[0] > live.born, "{versions:?}");
        assert_eq!(live.version(&id(0)), live.born);
    }

    #[tokio::test]
    async fn every_change_is_newer_than_all_before() {
        let live = Live::default();
        let run: RunId = "k7f29qxm".parse().unwrap();
        let mut news = live.subscribe();
        let first = live.version(&run);
        live.runs_changed(std::slice::from_ref(&run));
        let second = live.version(&run);
        assert!(second > first);
        news.changed().await.unwrap();
        let flow = live.flow(1);
        live.enter(&flow, Phase::Running);
        assert!(flow.changed() > second);
        assert_eq!(flow.total(), None);
        flow.progress(5, Some(9), None);
        assert_eq!((flow.done(), flow.total(), flow.entries()), (5, Some(9), None));
    }
}
