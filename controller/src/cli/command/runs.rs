//! `runs`, `runs show`, `runs watch`: durable work, and how it went.

use airlock_protocol::control::{RunId, RunView};

use super::Session;
use super::list::{time, width};
use crate::cli::args::{ListArgs, TimeForm};
use crate::cli::failure::{Exit, Failure};
use crate::cli::follow::{Signals, follow};
use crate::cli::json::{Document, Items, RunItem};
use crate::cli::pen::{Ink, Pen};
use crate::cli::table::{Column, Table};
use crate::cli::{amount, moment, outcome, report, word};

/// `runs [--all]`
pub(crate) async fn list(session: &Session, all: bool, list: ListArgs) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let runs = client.runs(all).await.map_err(|error| client.failed(error))?;
    let Session { console, .. } = session;
    if console.json {
        let items = Items::<RunItem>::new(runs);
        console.document(&Document::new("airlock.runs/1", items))?;
    } else if console.quiet {
        console.lines(runs.iter().map(|run| &run.run))?;
    } else {
        let table = table(console.out, &runs, list.time);
        console.result(&table.render(width(session, list)))?;
        console.footer(&amount::of(runs.len(), "run"));
    }
    Ok(Exit::OK)
}

/// `runs show RUN`
pub(crate) async fn show(session: &Session, run: RunId) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let view = client.show_run(run).await.map_err(|error| client.failed(error))?;
    let Session { console, .. } = session;
    if console.json {
        console.document(&Document::new("airlock.run/1", RunItem::from(view)))?;
    } else {
        console.result(&page(console.out, &view))?;
    }
    Ok(Exit::OK)
}

/// `runs watch RUN`
pub(crate) async fn watch(session: &Session, run: RunId) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let client = session.client().await?;
    let view = client.show_run(run).await.map_err(|error| client.failed(error));
    follow(&session.console, &client, &mut signals, session.limit, vec![view]).await
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
        let end = run.ended_at.unwrap_or_else(moment::now);
        let took = u64::try_from(end.saturating_sub(run.submitted_at)).unwrap_or(0);
        table.row(
            [
                run.run.to_string(),
                word::kind(run.kind).to_owned(),
                run.subject.clone(),
                word::run(run.state).to_owned(),
                stage.map_or("-".to_owned(), |stage| stage.name.clone()),
                moment::took(took),
                time(form, run.submitted_at),
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

fn page(pen: Pen, view: &RunView) -> String {
    let id = pen.ink(Ink::Bold, view.run.as_str());
    let (state, kind) = (word::run(view.state), word::kind(view.kind));
    let submitted = moment::utc(view.submitted_at);
    let mut page = format!("run {id}: {state}\n");
    let mut labels = vec![(kind.to_owned(), Ink::Plain, view.subject.clone())];
    labels.extend(view.source.clone().map(|source| ("source".to_owned(), Ink::Plain, source)));
    labels.push(("asked".to_owned(), Ink::Plain, submitted));
    labels.extend(view.ended_at.map(|at| ("ended".to_owned(), Ink::Plain, moment::utc(at))));
    page.push_str(&report::labelled(pen, &labels));
    if !view.steps.is_empty() {
        page.push('\n');
        page.push_str(&steps(pen, view).render(None));
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
