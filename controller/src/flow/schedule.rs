//! When a run begins, and what its end brings about: runs that follow it, and its parent's end.
//!
//! A run begins once the run that it follows has ended as it must, and its time has come. All of it
//! is in its row: a restart changes nothing of it.

use std::collections::HashSet;
use std::time::Duration;

use airlock_protocol::control::{ErrorClass, Fault, RunId};
use rusqlite::Transaction;

use super::chain;
use super::effects::Effects;
use super::engine::Engine;
use super::submit::{download_of, image_of, name_of};
use super::unreadable::{alone, past};
use crate::fault::{Explain as _, fault};
use crate::store::run::{RunRow, Standing};
use crate::store::unreadable::Key;
use crate::store::{StoreFault, history, now, run};

/// How long is slept at most: the clock may be set, and the machine be suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Ends a run, and does what that brings about.
pub(super) fn finish(
    tx: &Transaction<'_>,
    run: &RunId,
    standing: Standing,
    why: Option<&Fault>,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    if run::end(tx, run, standing, why)? {
        over(tx, run.clone(), effects)?;
    }
    Ok(())
}

/// Does what the end of a run brings about. What ends thereby is dealt with in turn, one after the
/// other: a long line of runs must not need a deep stack.
pub(super) fn over(
    tx: &Transaction<'_>,
    run: RunId,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    effects.changed.push(run.clone());
    effects.over.push_back(run);
    if std::mem::replace(&mut effects.at_it, true) {
        return Ok(());
    }
    while let Some(ended) = effects.over.pop_front() {
        for next in past(tx, effects, |tx| run::following(tx, &ended))? {
            begin_in_turn(tx, next, effects)?;
        }
        if let Some(parent) = past(tx, effects, |tx| run::parent_of(tx, &ended))? {
            close(tx, &parent, effects)?;
        }
    }
    effects.at_it = false;
    Ok(())
}

fn begin_in_turn(
    tx: &Transaction<'_>,
    run: RunRow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    let key = Key::Run(run.id.as_str().into());
    alone(tx, key, effects, |effects| begin_if_due(tx, run, effects)).map(drop)
}

/// Begins a run that has not begun, if nothing stands in its way any more; ends it, if what it
/// follows has not come to the end that it needs.
pub(super) fn begin_if_due(
    tx: &Transaction<'_>,
    mut run: RunRow,
    effects: &mut Effects,
) -> Result<(), StoreFault> {
    if let Some(before) = run.schedule.follows.clone().filter(|_| !run.schedule.released) {
        // What became of it is known also when its history was removed.
        let before_row = past(tx, effects, |tx| match run::find(tx, &before)? {
            None => Ok(history::find(tx, &before)?.map(|(row, _archived_at)| row)),
            found => Ok(found),
        })?;
        match before_row.as_ref().map(|row| (row.standing, row.set_aside)) {
            Some((Standing::Running, _)) => return Ok(()),
            Some((Standing::Done, false)) => {}
            Some(_) | None if run.schedule.runs_anyway => {}
            Some((standing, _)) => {
                let why = not_done(&before, standing, before_row.and_then(|row| row.fault));
                return finish(tx, &run.id, Standing::Failed, Some(&why), effects);
            }
            None => {
                let what =
                    format!("run {before}, which it was to follow, is not on record any more");
                let why = fault(ErrorClass::NotFound, "run.after_unknown", what);
                return finish(tx, &run.id, Standing::Failed, Some(&why), effects);
            }
        }
        run::release(tx, &run.id)?;
        effects.changed.push(run.id.clone());
    }
    if run.schedule.not_before.is_some_and(|time| time > now()) {
        effects.wake = true;
        return Ok(());
    }
    begin(tx, &mut run, effects)
}

/// Why a run does not begin: the one before it was not done.
fn not_done(before: &RunId, standing: Standing, theirs: Option<Fault>) -> Fault {
    let how = if standing == Standing::Cancelled { "was cancelled" } else { "failed" };
    let what = format!("run {before}, which it was to follow, {how}");
    let mut why =
        fault(ErrorClass::Conflict, "run.after_failed", what).fact("after", before.to_string());
    if let Some(theirs) = theirs {
        why.cause.push(theirs.message);
        why.cause.extend(theirs.cause);
        why = why.fact("code", theirs.code);
    }
    why.next(format!("airlock runs show {before}"))
}

/// Puts a run at its first flow.
fn begin(tx: &Transaction<'_>, run: &mut RunRow, effects: &mut Effects) -> Result<(), StoreFault> {
    if let Some(source) = &run.source {
        let source = crate::store::parsed(source, "runs.source")?;
        let download = download_of(source, &run.request)?;
        return chain::join_or_begin(tx, run, &download, effects);
    }
    // What an image's name means is told when it is needed: what it follows may have brought it.
    if let (None, Some(wanted)) = (run.image, run.schedule.wanted.clone()) {
        match image_of(tx, &wanted)? {
            Err(unknown) => return finish(tx, &run.id, Standing::Failed, Some(&unknown), effects),
            Ok(image) => {
                run.image = Some(image.digest);
                run.subject = name_of(tx, &image)?;
                run.tally.image = Some(run.subject.clone());
            }
        }
    }
    chain::go_on(tx, run, effects)
}

/// Ends a parent whose children have all ended: as the one that fared worst.
fn close(tx: &Transaction<'_>, parent: &RunId, effects: &mut Effects) -> Result<(), StoreFault> {
    effects.changed.push(parent.clone());
    let children = past(tx, effects, |tx| run::children(tx, parent))?;
    let worst = children.iter().map(|child| child.standing).max_by_key(|standing| match standing {
        Standing::Done => 0,
        Standing::Cancelled => 1,
        Standing::Failed => 2,
        Standing::Running => 3,
    });
    match worst {
        None | Some(Standing::Running) => Ok(()),
        Some(Standing::Failed) => {
            let why = some_failed(&children);
            finish(tx, parent, Standing::Failed, Some(&why), effects)
        }
        Some(standing) => finish(tx, parent, standing, None, effects),
    }
}

fn some_failed(children: &[RunRow]) -> Fault {
    let failed: Vec<_> =
        children.iter().filter(|child| child.standing == Standing::Failed).collect();
    let classes: HashSet<_> =
        failed.iter().filter_map(|child| child.fault.as_ref()).map(|f| f.class.exit()).collect();
    let class = failed.iter().find_map(|child| child.fault.as_ref()).map(|fault| fault.class);
    let class = class.filter(|_| classes.len() == 1).unwrap_or(ErrorClass::Internal);
    let what = format!("{} of {} runs failed", failed.len(), children.len());
    let mut why = fault(class, "run.children", what);
    for child in failed.into_iter().take(10) {
        let code = child.fault.as_ref().map_or("?", |fault| fault.code.as_str());
        why = why.fact("run", format!("{} {}: {code}", child.id, child.subject));
    }
    why
}

/// Takes up what has not begun: begins what is due, ends what can never begin.
pub(super) fn take_up(tx: &Transaction<'_>, effects: &mut Effects) -> Result<(), StoreFault> {
    let waiting = past(tx, effects, run::not_begun)?;
    let next = |id: &RunId| {
        let row = waiting.iter().find(|row| row.id == *id)?;
        row.schedule.follows.clone().filter(|_| !row.schedule.released)
    };
    for row in &waiting {
        // No order makes a circle; damage may.
        let mut seen = HashSet::from([row.id.clone()]);
        let mut at = next(&row.id);
        while let Some(id) = at {
            if id == row.id {
                let what = "it was to follow itself, by way of those that it follows";
                let why = fault(ErrorClass::Internal, "run.after_itself", what);
                finish(tx, &row.id, Standing::Failed, Some(&why), effects)?;
                break;
            }
            at = if seen.insert(id.clone()) { next(&id) } else { None };
        }
    }
    for row in past(tx, effects, run::not_begun)? {
        begin_in_turn(tx, row, effects)?;
    }
    for parent in past(tx, effects, run::open_parents)? {
        close(tx, &parent, effects)?;
    }
    Ok(())
}

impl Engine {
    /// Begins what is due, each at its time, until the engine stops.
    pub(super) async fn keep_time(self) {
        while !self.is_stopping() {
            if let Err(error) = self.begin_what_is_due().await {
                tracing::error!(?error, "failed to begin runs whose time has come");
            }
            let next = self.read_past(run::next_time).await.ok().flatten();
            let wait = next.map_or(LONGEST_SLEEP, |time| {
                let wait = u64::try_from(time.saturating_sub(now())).unwrap_or(0);
                Duration::from_millis(wait).min(LONGEST_SLEEP)
            });
            self.sleep_or_wake(wait).await;
        }
    }

    async fn begin_what_is_due(&self) -> Result<(), StoreFault> {
        if self.read_past(run::next_time).await?.is_none_or(|time| time > now()) {
            return Ok(());
        }
        let begun = self.world().store.write(|tx| {
            let mut effects = Effects::default();
            for row in past(tx, &mut effects, |tx| run::due(tx, now()))? {
                begin_in_turn(tx, row, &mut effects)?;
            }
            Ok(effects)
        });
        self.carry_out(&begun.await?);
        Ok(())
    }
}
