//! Runs as programs read them: in lists, and as a stream of lines while one is watched.

use airlock_protocol::control::{
    ChildView, Links, Reused, RunResult, RunState, RunView, StageView, StepRecord, Timing,
};
use serde::Serialize;

use crate::cli::report::ErrorBody;
use crate::cli::{moment, word};

/// A line of a run's stream. The last one of a run has the type `result`, and `ok`.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    at: String,
    ok: Option<bool>,
    #[serde(flatten)]
    run: RunItem,
}

impl Line {
    /// A run that goes on.
    pub(crate) fn progress(view: RunView) -> Self {
        Self { kind: "progress", at: moment::utc(moment::now()), ok: None, run: view.into() }
    }

    /// The last word on a run, even if it is that nobody waits for its end.
    pub(crate) fn result(view: RunView) -> Self {
        let ok = view.state == RunState::Done;
        Self { kind: "result", at: moment::utc(moment::now()), ok: Some(ok), run: view.into() }
    }
}

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct RunItem {
    run: String,
    kind: &'static str,
    subject: String,
    source: Option<String>,
    state: &'static str,
    submitted_at: String,
    ended_at: Option<String>,
    retry_of: Option<String>,
    retried_as: Option<String>,
    archived_at: Option<String>,
    stages: Vec<StageItem>,
    steps: Vec<StepItem>,
    result: Option<ResultItem>,
    error: Option<ErrorBody>,
    after: Option<String>,
    if_failed: Option<&'static str>,
    not_before: Option<String>,
    parent: Option<String>,
    children: Vec<ChildItem>,
}

#[derive(Debug, Serialize)]
struct ChildItem {
    run: String,
    subject: String,
    state: &'static str,
}

impl From<RunView> for RunItem {
    fn from(view: RunView) -> Self {
        let Links { after, runs_anyway, waits: _, not_before, parent, children } = view.links;
        let child = |ChildView { run, subject, state }| ChildItem {
            run: run.into(),
            subject,
            state: word::run(state),
        };
        Self {
            if_failed: after.as_ref().map(|_| if runs_anyway { "run" } else { "skip" }),
            after: after.map(String::from),
            not_before: not_before.map(moment::utc),
            parent: parent.map(String::from),
            children: children.into_iter().map(child).collect(),
            run: view.run.into(),
            kind: word::kind(view.kind),
            subject: view.subject,
            source: view.source,
            state: word::run(view.state),
            submitted_at: moment::utc(view.submitted_at),
            ended_at: view.ended_at.map(moment::utc),
            retry_of: view.retry_of.map(String::from),
            retried_as: view.retried_as.map(String::from),
            archived_at: view.archived_at.map(moment::utc),
            stages: view.stages.into_iter().map(Into::into).collect(),
            steps: view.steps.into_iter().map(Into::into).collect(),
            result: view.result.map(Into::into),
            error: view.fault.as_ref().map(Into::into),
        }
    }
}

#[derive(Debug, Serialize)]
struct StageItem {
    name: String,
    state: &'static str,
    attempt: u32,
    done_bytes: u64,
    total_bytes: Option<u64>,
    entries: Option<u64>,
    took_ms: u64,
    message: Option<String>,
}

impl From<StageView> for StageItem {
    fn from(view: StageView) -> Self {
        let StageView { name, state, done_bytes, total_bytes, entries, took_ms, attempt, note } =
            view;
        Self {
            name,
            state: word::stage(state),
            attempt,
            done_bytes,
            total_bytes,
            entries,
            took_ms,
            message: note,
        }
    }
}

#[derive(Debug, Serialize)]
struct StepItem {
    machine: String,
    state: String,
    attempt: u32,
    started_at: String,
    took_ms: Option<u64>,
    message: Option<String>,
    timings: Vec<TimingItem>,
}

impl From<StepRecord> for StepItem {
    fn from(record: StepRecord) -> Self {
        let StepRecord { machine, state, attempt, started_at, took_ms, outcome, timings } = record;
        let started_at = moment::utc(started_at);
        Self {
            machine,
            state,
            attempt,
            started_at,
            took_ms,
            message: outcome,
            timings: timings.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct TimingItem {
    part: &'static str,
    size_bytes: Option<u64>,
    took_us: u64,
}

impl From<Timing> for TimingItem {
    fn from(timing: Timing) -> Self {
        let Timing { part, bytes, took_us } = timing;
        Self { part: word::sub_step(part), size_bytes: bytes, took_us }
    }
}

#[derive(Debug, Serialize)]
struct ResultItem {
    image: String,
    digest: String,
    snapshot: Option<String>,
    device: Option<String>,
    device_bytes: Option<u64>,
    read_only: bool,
    reused: ReusedItem,
    changed: bool,
    fetched_bytes: u64,
    took_ms: u64,
}

#[derive(Debug, Serialize)]
struct ReusedItem {
    blob: bool,
    volume: bool,
    snapshot: bool,
}

impl From<RunResult> for ResultItem {
    fn from(result: RunResult) -> Self {
        let Reused { blob, volume, snapshot } = result.reused;
        Self {
            image: result.image,
            digest: result.digest.to_string(),
            snapshot: result.snapshot.map(String::from),
            device: result.device,
            device_bytes: result.device_bytes,
            read_only: result.read_only,
            reused: ReusedItem { blob, volume, snapshot },
            changed: result.changed,
            fetched_bytes: result.fetched_bytes,
            took_ms: result.took_ms,
        }
    }
}
