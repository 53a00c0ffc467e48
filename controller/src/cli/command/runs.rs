//! `runs`, `runs show`, `runs watch`: durable work, and how it went.

use std::cmp::Reverse;

use airlock_protocol::control::{ListRuns, RunId, RunState, RunView, Timing};

use super::Session;
use super::list::{time, turn, width};
use crate::cli::args::{ListArgs, RunSort, RunStatus, TimeForm};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Signals, children, follow};
use crate::cli::json::{Document, Items, RunItem};
use crate::cli::pen::{Ink, Pen};
use crate::cli::table::{Column, Table};
use crate::cli::{amount, moment, outcome, report, word};

/// `runs [--all] [--status STATE]`
pub(crate) async fn list(
    session: &Session,
    (all, status): (bool, Option<RunStatus>),
    sort: RunSort,
    list: ListArgs,
) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let status = status.map(RunState::from);
    let (source, before) = (list.source.clone(), list.before());
    let asked = ListRuns { all, status, source, before, after: None };
    let mut runs = client.runs(asked).await.map_err(|error| client.failed(error))?;
    // Whether one that goes on works or waits, its daemon knows and not the database.
    runs.retain(|run| status.is_none_or(|status| run.state == status));
    runs.sort_by_key(|run| Reverse(run.submitted_at));
    match sort {
        RunSort::Age => {}
        RunSort::Image => runs.sort_by(|one, other| one.subject.cmp(&other.subject)),
        RunSort::State => runs.sort_by_key(|run| word::run(run.state)),
        RunSort::Took => runs.sort_by_key(|run| Reverse(took(run))),
    }
    turn(&mut runs, &list);
    let Session { console, .. } = session;
    if console.json {
        let items = Items::<RunItem>::new(runs);
        console.document(&Document::new("airlock.runs/1", items))?;
    } else if console.quiet {
        console.lines(runs.iter().map(|run| &run.run))?;
    } else {
        let table = table(console.out, &runs, list.time);
        console.result(&table.render(width(session, &list)))?;
        console.footer(&amount::of(runs.len(), "run"));
    }
    Ok(Exit::OK)
}

/// `runs show RUN [--timing]`
pub(crate) async fn show(session: &Session, run: RunId, timing: bool) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let view = client.show_run(run).await.map_err(|error| client.failed(error))?;
    let Session { console, .. } = session;
    if console.json {
        console.document(&Document::new("airlock.run/1", RunItem::from(view)))?;
    } else {
        console.result(&page(console.out, &view, timing))?;
    }
    Ok(Exit::OK)
}

/// `runs watch RUN`
pub(crate) async fn watch(session: &Session, run: RunId) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let client = session.client().await?;
    let view = client.show_run(run).await.map_err(|error| client.failed(error))?;
    let targets = children(&client, view).await;
    follow(&session.console, &client, &mut signals, session.limit, targets).await
}

fn table(pen: Pen, runs: &[RunView], form: TimeForm) -> Table {
    let mut table = Table::new(&[
        Column::text("RUN"),
        Column::text("KIND").drops(3),
        Column::text("IMAGE"),
        Column::text("STATE"),
        Column::text("STAGE").drops(2),
        Column::number("TOOK"),
        Column::text("AGE").drops(1),
    ]);
    for run in runs {
        // The stage that goes on, or the last one that began.
        let begun = |state| word::stage(state) != "pending";
        let stage = run.stages.iter().rfind(|stage| begun(stage.state));
        table.row(
            [
                run.run.to_string(),
                word::kind(run.kind).to_owned(),
                run.subject.clone(),
                word::run(run.state).to_owned(),
                stage.map_or_else(
                    || outcome::wait(run).unwrap_or_else(|| "-".to_owned()),
                    |stage| stage.name.clone(),
                ),
                moment::took(took(run)),
                time(form, run.submitted_at),
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

/// How long a run took, or has taken, in milliseconds.
fn took(run: &RunView) -> u64 {
    let end = run.ended_at.unwrap_or_else(moment::now);
    u64::try_from(end.saturating_sub(run.submitted_at)).unwrap_or(0)
}

fn page(pen: Pen, view: &RunView, timing: bool) -> String {
    let id = pen.ink(Ink::Bold, view.run.as_str());
    let (state, kind) = (word::run(view.state), word::kind(view.kind));
    let submitted = moment::utc(view.submitted_at);
    let mut page = format!("run {id}: {state}\n");
    let of = |label: &str, text: String| (label.to_owned(), Ink::Plain, text);
    let mut labels = vec![(kind.to_owned(), Ink::Plain, view.subject.clone())];
    labels.extend(view.source.clone().map(|source| ("source".to_owned(), Ink::Plain, source)));
    labels.push(("asked".to_owned(), Ink::Plain, submitted));
    labels.extend(view.ended_at.map(|at| ("ended".to_owned(), Ink::Plain, moment::utc(at))));
    let run = |label: &str, run: &RunId| (label.to_owned(), Ink::Plain, run.to_string());
    labels.extend(view.retry_of.as_ref().map(|of| run("again", of)));
    labels.extend(view.retried_as.as_ref().map(|by| run("retried", by)));
    let removed = |at| format!("{}: its stages and steps are not kept any more", moment::utc(at));
    labels.extend(view.archived_at.map(|at| ("archived".to_owned(), Ink::Plain, removed(at))));
    labels.extend(view.links.parent.iter().map(|parent| of("parent", parent.to_string())));
    labels.extend(outcome::wait(view).filter(|_| !view.state.is_over()).map(|w| of("begins", w)));
    labels.extend(view.links.children.iter().map(|child| {
        of("child", format!("{} {} {}", child.run, child.subject, word::run(child.state)))
    }));
    page.push_str(&report::labelled(pen, &labels));
    if !view.steps.is_empty() {
        page.push('\n');
        page.push_str(&steps(pen, view).render(None));
    }
    if timing {
        page.push('\n');
        page.push_str(&timings(pen, view).render(None));
    }
    if let Some(result) = &view.result {
        page.push('\n');
        page.push_str(&outcome::block(pen, result));
    }
    if let Some(fault) = &view.fault {
        page.push('\n');
        page.push_str(&report::text(pen, &fault.clone().into(), false));
    }
    page
}

fn steps(pen: Pen, view: &RunView) -> Table {
    let mut table = Table::new(&[
        Column::text("MACHINE"),
        Column::text("STATE"),
        Column::number("TRY"),
        Column::text("STARTED"),
        Column::number("TOOK"),
        Column::text("RESULT"),
    ]);
    for step in &view.steps {
        table.row(
            [
                step.machine.clone(),
                step.state.clone(),
                step.attempt.to_string(),
                moment::utc(step.started_at),
                step.took_ms.map_or_else(|| "-".to_owned(), moment::took),
                step.outcome.clone().unwrap_or_else(|| "-".to_owned()),
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

fn timings(pen: Pen, view: &RunView) -> Table {
    let mut table = Table::new(&[
        Column::text("STATE"),
        Column::number("TRY"),
        Column::text("PART"),
        Column::number("SIZE"),
        Column::number("TOOK"),
        Column::number("RATE"),
    ]);
    for step in &view.steps {
        for Timing { part, bytes, took_us } in &step.timings {
            let rate = bytes.and_then(|bytes| rate(bytes, *took_us));
            table.row(
                [
                    step.state.clone(),
                    step.attempt.to_string(),
                    word::sub_step(*part).to_owned(),
                    bytes.map_or_else(|| "-".to_owned(), amount::bytes),
                    moment::took_us(*took_us),
                    rate.map_or_else(
                        || "-".to_owned(),
                        |rate| format!("{}/s", amount::bytes(rate)),
                    ),
                ]
                .map(|cell| pen.text(&cell)),
            );
        }
    }
    table
}

/// Bytes a second; of less than a millisecond it says nothing.
fn rate(bytes: u64, took_us: u64) -> Option<u64> {
    let per_second = u128::from(bytes).saturating_mul(1_000_000);
    let rate = per_second.checked_div(u128::from(took_us)).filter(|_| took_us >= 1000)?;
    u64::try_from(rate).ok().filter(|rate| *rate > 0)
}
