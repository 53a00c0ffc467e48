//! A run as people see it: stages made of states, figures of the moment from [`Live`].

use airlock_policy::digest::Digest;
use airlock_protocol::control::{
    ChildView, Fault, Links, ListRuns, RunId, RunKind, RunResult, RunState, RunView, StageState,
    StageView, StepRecord,
};
use rusqlite::Transaction;

use super::download::{DownloadData, DownloadState};
use super::engine::Engine;
use super::live::{Live, LiveFlow, Phase};
use super::machine::{AGAIN, INTERRUPTED, State as _};
use super::submit::{device_of, no_such_run};
use super::unpack::{UnpackData, UnpackInput};
use super::{Activate, Download, Unpack};
use crate::store::flow::{FlowRow, StepRow};
use crate::store::run::{RunCursor, RunFilter, RunRow, Schedule, Standing};
use crate::store::{StoreFault, flow, history, now, run, unsigned};

/// The stages of a run: each a machine, and the states of it that people see as one.
const RESOLVE: Stage = Stage("resolve", Download::NAME, &["check_exists"]);
const DOWNLOAD: Stage = Stage("download", Download::NAME, &["download"]);
const VALIDATE: Stage = Stage("validate", Download::NAME, &["validate", "store_metadata"]);
const UNPACK: Stage = Stage(
    "unpack",
    Unpack::NAME,
    &["check_unpacked", "create_device", "extract_layers", "verify_layout", "update_db"],
);
const ACTIVATE: Stage =
    Stage("activate", Activate::NAME, &["check_snapshot", "create_snapshot", "register"]);

/// A stage: its name, its machine, its states.
#[derive(Clone, Copy, Debug)]
struct Stage(&'static str, &'static str, &'static [&'static str]);

impl Stage {
    fn has(&self, state: &str) -> bool {
        self.2.contains(&state)
    }
}

/// A run with its flows, as the database has them.
struct Whole {
    run: RunRow,
    children: Vec<RunRow>,
    flows: Vec<(FlowRow, Vec<StepRow>)>,
    retried_as: Option<RunId>,
    archived_at: Option<i64>,
}

/// Reads a run; `in_full` also what came of it later.
fn read(tx: &Transaction<'_>, run: RunRow, in_full: bool) -> Result<Whole, StoreFault> {
    let retried_as = if in_full { run::retried_as(tx, &run.id)? } else { None };
    let mut flows: Vec<_> =
        flow::of_run(tx, &run.id)?.into_iter().map(|row| (row, Vec::new())).collect();
    for step in flow::steps(tx, &run.id, in_full)? {
        if let Some((_, steps)) = flows.iter_mut().find(|(row, _)| row.id == step.flow) {
            steps.push(step);
        }
    }
    // What another flow took over is shown there.
    flows.retain(|(row, _)| row.state != DownloadState::Joined.name());
    let children = if run.schedule.members > 0 { run::children(tx, &run.id)? } else { Vec::new() };
    Ok(Whole { run, children, flows, retried_as, archived_at: None })
}

/// A run, or the bare outcome that is left of it.
fn find(tx: &Transaction<'_>, id: &RunId, in_full: bool) -> Result<Option<Whole>, StoreFault> {
    if let Some(run) = run::find(tx, id)? {
        return read(tx, run, in_full).map(Some);
    }
    let archived = history::find(tx, id)?;
    Ok(archived.map(|(run, at)| Whole {
        run,
        children: Vec::new(),
        flows: Vec::new(),
        retried_as: None,
        archived_at: Some(at),
    }))
}

/// Steps of one run that a view holds at most, the last ones: so that it fits a frame.
const MAX_STEPS: usize = 100;

impl Engine {
    /// The run of this id.
    pub async fn view(&self, id: &RunId, with_steps: bool) -> Result<RunView, Fault> {
        let wanted = id.clone();
        let whole = self.read_past(move |tx| find(tx, &wanted, with_steps));
        let whole = whole.await.map_err(|error| error.fault())?.ok_or_else(|| no_such_run(id))?;
        Ok(view(&whole, &self.world().live, with_steps))
    }

    /// Whether a run has ended, or was never there.
    pub async fn is_over(&self, id: &RunId) -> Result<bool, Fault> {
        let wanted = id.clone();
        let goes_on = self.world().store.read(move |tx| run::goes_on(tx, &wanted)).await;
        Ok(!goes_on.map_err(|error| error.fault())?)
    }

    /// A page of runs, newest first, and whether nothing comes behind it.
    pub async fn views(&self, asked: ListRuns, limit: u32) -> Result<(Vec<RunView>, bool), Fault> {
        let ListRuns { all, status, source, before, after } = asked;
        let is_plain = source.is_none() && before.is_none() && after.is_none();
        let standing = match status {
            None => (!all).then_some(Standing::Running),
            Some(RunState::Queued | RunState::Running | RunState::Waiting) => {
                Some(Standing::Running)
            }
            Some(RunState::Done) => Some(Standing::Done),
            Some(RunState::Failed | RunState::Unreadable) => Some(Standing::Failed),
            Some(RunState::Cancelled) => Some(Standing::Cancelled),
        };
        let only_aside = status == Some(RunState::Unreadable);
        let filter = RunFilter { standing, source, before };
        let after = after.as_deref().and_then(cursor);
        let wholes = self.read_past(move |tx| {
            // What could not be read is shown until the operator is done with it.
            let mut runs = match (all, status) {
                (_, Some(RunState::Unreadable)) | (false, None) if is_plain => run::set_aside(tx)?,
                _ => Vec::new(),
            };
            if !only_aside {
                runs.extend(run::page(tx, &filter, after.as_ref(), limit)?);
            }
            runs.into_iter().map(|run| read(tx, run, false)).collect::<Result<Vec<_>, _>>()
        });
        let wholes = wholes.await.map_err(|error| error.fault())?;
        let is_all = wholes.len() < usize::try_from(limit).unwrap_or(0);
        let views = wholes.iter().map(|whole| view(whole, &self.world().live, false)).collect();
        Ok((views, is_all))
    }
}

/// What the page after this run begins after.
pub(crate) fn cursor_of(view: &RunView) -> String {
    let RunView { submitted_at, run, source, .. } = view;
    format!("{submitted_at} {run} {}", source.as_deref().unwrap_or_default())
}

fn cursor(text: &str) -> Option<RunCursor> {
    let mut words = text.splitn(3, ' ');
    let (time, id) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    Some(RunCursor { time, id, source: words.next().unwrap_or_default().to_owned() })
}

fn view(whole: &Whole, live: &Live, with_steps: bool) -> RunView {
    let Whole { run, children, flows, retried_as, archived_at } = whole;
    let lives: Vec<_> = flows.iter().map(|(flow, _)| live.find(flow.id)).collect();
    let newest = lives.iter().flatten().map(|flow| flow.changed()).max().unwrap_or(0);
    let at = flows.iter().position(|(flow, _)| Some(flow.id) == run.flow);
    let present = at.and_then(|at| flows.get(at)).map(|(flow, _)| flow);
    let present_live = at.and_then(|at| lives.get(at)).and_then(Option::as_deref);
    let state = match run.standing {
        _ if run.set_aside => RunState::Unreadable,
        Standing::Done => RunState::Done,
        Standing::Failed => RunState::Failed,
        Standing::Cancelled => RunState::Cancelled,
        // A parent goes on as soon as one of its children does.
        Standing::Running if children.iter().any(|child| child.flow.is_some()) => RunState::Running,
        Standing::Running => match present_live.map_or(Phase::Queued, LiveFlow::phase) {
            Phase::Queued => RunState::Queued,
            Phase::Running => RunState::Running,
            Phase::Waiting => RunState::Waiting,
        },
    };
    let why_waiting = || {
        let told = present.and_then(|flow| flow.fault.as_deref());
        let told = told.and_then(|fault| serde_json::from_str(fault).ok());
        present_live.and_then(LiveFlow::fault).or(told)
    };
    let fault = run
        .fault
        .clone()
        .or_else(|| (run.standing == Standing::Running).then(why_waiting).flatten());
    RunView {
        run: run.id.clone(),
        kind: run.kind,
        subject: run.subject.clone(),
        source: run.source.clone(),
        state,
        stages: if archived_at.is_some() || !children.is_empty() {
            Vec::new()
        } else {
            stages(run, flows, &lives)
        },
        steps: if with_steps { steps(flows) } else { Vec::new() },
        retry_of: run.retry_of.clone(),
        retried_as: retried_as.clone(),
        archived_at: *archived_at,
        version: live.version(&run.id).max(newest),
        submitted_at: run.submitted_at,
        ended_at: run.ended_at,
        result: run.image.filter(|_| run.standing == Standing::Done).map(|i| result(run, i)),
        fault,
        links: links(run, children),
    }
}

fn links(run: &RunRow, children: &[RunRow]) -> Links {
    let child = |child: &RunRow| ChildView {
        run: child.id.clone(),
        subject: child.subject.clone(),
        state: match child.standing {
            _ if child.set_aside => RunState::Unreadable,
            Standing::Done => RunState::Done,
            Standing::Failed => RunState::Failed,
            Standing::Cancelled => RunState::Cancelled,
            Standing::Running if child.flow.is_some() => RunState::Running,
            Standing::Running => RunState::Queued,
        },
    };
    let Schedule { follows, released, runs_anyway, not_before, parent, .. } = &run.schedule;
    let has_begun = run.flow.is_some() || run.standing != Standing::Running;
    Links {
        waits: follows.is_some() && !released && !has_begun,
        after: follows.clone(),
        runs_anyway: *runs_anyway,
        not_before: *not_before,
        parent: parent.clone(),
        children: children.iter().map(child).collect(),
    }
}

fn steps(flows: &[(FlowRow, Vec<StepRow>)]) -> Vec<StepRecord> {
    let mut all: Vec<&StepRow> = flows.iter().flat_map(|(_, steps)| steps).collect();
    all.sort_by_key(|step| (step.started_at, step.flow));
    let skipped = all.len().saturating_sub(MAX_STEPS);
    let record = |step: &StepRow| StepRecord {
        machine: step.machine.clone(),
        state: step.source.clone(),
        attempt: step.attempt,
        started_at: step.started_at,
        took_ms: Some(step.took_ms),
        outcome: Some(match &step.outcome {
            Some(note) => format!("{}: {note}", step.event),
            None => step.event.clone(),
        }),
        timings: step.timings.clone(),
    };
    all.into_iter().skip(skipped).map(record).collect()
}

fn result(run: &RunRow, digest: Digest) -> RunResult {
    let tally = run.tally.clone();
    let mount = run.activation.as_ref().is_some_and(|activation| activation.mount);
    RunResult {
        image: tally.image.unwrap_or_else(|| run.subject.clone()),
        digest,
        device: tally.snapshot.as_ref().map(|name| device_of(name, mount)),
        snapshot: tally.snapshot,
        device_bytes: tally.device_bytes,
        read_only: run.activation.as_ref().is_some_and(|activation| activation.read_only),
        reused: tally.reused,
        changed: tally.changed,
        fetched_bytes: tally.fetched_bytes,
        took_ms: unsigned(run.ended_at.unwrap_or_else(now).saturating_sub(run.submitted_at)),
    }
}

type Lives = [Option<std::sync::Arc<LiveFlow>>];

fn stages(run: &RunRow, flows: &[(FlowRow, Vec<StepRow>)], lives: &Lives) -> Vec<StageView> {
    let all: &[Stage] = match run.kind {
        RunKind::Pull => &[RESOLVE, DOWNLOAD, VALIDATE, UNPACK],
        RunKind::Run => &[RESOLVE, DOWNLOAD, VALIDATE, UNPACK, ACTIVATE],
        RunKind::Activate => &[UNPACK, ACTIVATE],
    };
    let stage = |stage: &Stage| {
        let mut shown = blank(stage.0);
        for ((flow, steps), live) in flows.iter().zip(lives) {
            if flow.machine == stage.1 {
                merge(&mut shown, stage, (flow, steps), live.as_deref());
            }
        }
        shown
    };
    let stages = all.iter().map(stage);
    // That an image to be activated is unpacked is not worth a line.
    stages
        .filter(|shown| {
            run.kind != RunKind::Activate
                || shown.name != UNPACK.0
                || !matches!(shown.state, StageState::Held | StageState::Pending)
        })
        .collect()
}

fn blank(name: &str) -> StageView {
    StageView {
        name: name.to_owned(),
        state: StageState::Pending,
        done_bytes: 0,
        total_bytes: None,
        entries: None,
        took_ms: 0,
        attempt: 1,
        note: None,
    }
}

/// Adds to a stage what one flow says of it; a stage may be made of several, one a layer.
fn merge(
    shown: &mut StageView,
    stage: &Stage,
    (flow, steps): (&FlowRow, &[StepRow]),
    live: Option<&LiveFlow>,
) {
    let here: Vec<&StepRow> = steps.iter().filter(|step| stage.has(&step.source)).collect();
    let last = here.last();
    shown.took_ms = here.iter().fold(shown.took_ms, |sum, step| sum.saturating_add(step.took_ms));
    shown.note = last.and_then(|step| step.outcome.clone()).or(shown.note.take());
    shown.attempt = last.map_or(shown.attempt, |step| step.attempt);
    let figures = figures(flow, stage);
    shown.entries = figures.entries.or(shown.entries);
    if let Some(total) = figures.bytes {
        shown.total_bytes = Some(shown.total_bytes.unwrap_or(0).saturating_add(total));
    }
    if flow.ended_at.is_none() && stage.has(&flow.state) {
        shown.attempt = flow.attempt;
        shown.state = match live.map(LiveFlow::phase) {
            Some(Phase::Waiting) => StageState::Again,
            Some(Phase::Queued) | None if shown.state == StageState::Pending => StageState::Pending,
            Some(Phase::Queued | Phase::Running) | None => StageState::Running,
        };
        if let Some(live) = live.filter(|live| live.phase() == Phase::Running) {
            let since = now().saturating_sub(live.started_at());
            shown.took_ms = shown.took_ms.saturating_add(unsigned(since));
            shown.done_bytes = shown.done_bytes.saturating_add(live.done());
            shown.total_bytes = live.total().or(shown.total_bytes);
            shown.entries = live.entries().or(shown.entries);
        }
        return;
    }
    let stays = |step: &StepRow| step.event == AGAIN || step.event == INTERRUPTED;
    let passed = match last {
        Some(last) => !stays(last) && !matches!(last.event.as_str(), "failed" | "cancelled"),
        None => false,
    };
    let left_as = match (flow.state.as_str(), passed) {
        ("done", _) if figures.held => StageState::Held,
        ("failed" | "cancelled", false) if last.is_some() => StageState::Failed,
        // It was set aside where it was.
        _ if stage.has(&flow.state) => StageState::Failed,
        ("done", _) | (_, true) => StageState::Done,
        _ => StageState::Pending,
    };
    if matches!(left_as, StageState::Done | StageState::Held) {
        shown.done_bytes = shown.done_bytes.saturating_add(figures.bytes.unwrap_or(0));
    }
    // A stage is held only if all of its flows were.
    shown.state = match (shown.state, left_as) {
        (StageState::Done, StageState::Held) => StageState::Done,
        (_, left_as) => left_as,
    };
}

/// What a flow knows of a stage besides its steps.
#[derive(Default)]
struct Figures {
    bytes: Option<u64>,
    entries: Option<u64>,
    held: bool,
}

fn figures(flow: &FlowRow, stage: &Stage) -> Figures {
    match flow.machine.as_str() {
        Download::NAME => {
            let data: DownloadData = serde_json::from_str(&flow.data).unwrap_or_default();
            let bytes = data.seen.map(|seen| seen.bytes);
            let is_bytes = stage.0 != RESOLVE.0;
            let entries = (stage.0 == VALIDATE.0 && data.entries > 0).then_some(data.entries);
            let held = data.held && is_bytes;
            Figures { bytes: bytes.filter(|_| is_bytes), entries, held }
        }
        Unpack::NAME => {
            let data: UnpackData = serde_json::from_str(&flow.data).unwrap_or_default();
            let bytes = serde_json::from_str::<UnpackInput>(&flow.input).ok();
            let bytes = bytes.map(|input| input.blob_bytes);
            Figures { bytes, entries: data.entries, held: data.held }
        }
        _ => {
            let data: super::activate::ActivateData =
                serde_json::from_str(&flow.data).unwrap_or_default();
            Figures { held: data.held, ..Figures::default() }
        }
    }
}
