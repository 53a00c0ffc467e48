//! Removes what is not kept any more of runs that ended: a few at a time, so that nobody waits.

use std::time::Duration;

use super::Daemon;
use super::recover::KEPT_PARTS;
use crate::config::{HistoryConfig, TimeSpan};
use crate::store::history::{self, Keep};
use crate::store::{StoreFault, Verdict, now};

/// How long after its start, and after each sweep, the daemon sweeps.
const EVERY: Duration = Duration::from_hours(1);
/// Runs that one transaction looks at.
const RUNS: u32 = 50;
/// Outcomes that one transaction removes.
const OUTCOMES: u32 = 500;
/// How long others have the database to themselves in between.
const PAUSE: Duration = Duration::from_millis(20);

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Swept {
    /// Runs whose history was removed.
    pub(super) runs: u32,
    /// Flows that were removed with them.
    pub(super) flows: u32,
    /// Runs that would go, and that something refers to.
    pub(super) referred: u32,
    /// Outcomes that were removed.
    pub(super) outcomes: usize,
}

impl Daemon {
    /// Sweeps for ever.
    pub(super) async fn keep_history(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if self.world().store.verdict() != Verdict::Sound {
                continue;
            }
            match self.sweep_history(&self.config.history).await {
                Ok(Swept { runs: 0, outcomes: 0, .. }) => {}
                Ok(Swept { runs, flows, referred, outcomes }) => {
                    tracing::info!(runs, flows, referred, outcomes, "swept the history of runs");
                }
                Err(error) => tracing::warn!(%error, "failed to sweep the history of runs"),
            }
        }
    }

    /// Removes everything that is not to be kept.
    pub(super) async fn sweep_history(&self, kept: &HistoryConfig) -> Result<Swept, StoreFault> {
        let store = &self.world().store;
        let ago = |span: TimeSpan| {
            now().saturating_sub(i64::try_from(span.duration().as_millis()).unwrap_or(i64::MAX))
        };
        let parts_since = now().saturating_sub(KEPT_PARTS);
        let keep = Keep { since: ago(kept.age), runs: kept.runs, parts_since };
        let (mut swept, mut after) = (Swept::default(), None);
        loop {
            let archived =
                store.write(move |tx| history::archive(tx, &keep, after.as_ref(), RUNS)).await?;
            swept.runs = swept.runs.saturating_add(archived.runs);
            swept.flows = swept.flows.saturating_add(archived.flows);
            swept.referred = swept.referred.saturating_add(archived.referred);
            after = archived.next;
            if after.is_none() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let before = ago(kept.outcomes);
        loop {
            let forgotten = store.write(move |tx| history::forget(tx, before, OUTCOMES)).await?;
            swept.outcomes = swept.outcomes.saturating_add(forgotten);
            if forgotten == 0 {
                return Ok(swept);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
