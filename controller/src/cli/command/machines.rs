//! `runs machines`: what holds for each state that a run goes through, and how busy it is.

use airlock_protocol::control::{MachinesView, QueueView, Setting, StateRules};

use super::Session;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::{Document, MachinesItem};
use crate::cli::pen::Pen;
use crate::cli::table::{Column, Table};
use crate::config::TimeSpan;

/// `runs machines`
pub(crate) async fn machines(session: &Session) -> Result<Exit, Failure> {
    let client = session.client().await?;
    let view = client.machines().await.map_err(|error| client.failed(error))?;
    let Session { console, .. } = session;
    if console.json {
        console.document(&Document::new("airlock.machines/1", MachinesItem::from(view)))?;
    } else {
        let states = states(console.out, &view).render(console.out_width);
        let queues = queues(console.out, &view.queues).render(console.out_width);
        console.result(&format!("{states}\n{queues}"))?;
    }
    Ok(Exit::OK)
}

fn states(pen: Pen, view: &MachinesView) -> Table {
    let mut table = Table::new(&[
        Column::text("MACHINE").drops(2),
        Column::text("STATE"),
        Column::number("ATTEMPTS"),
        Column::number("DEADLINE"),
        Column::number("LONGEST WAIT").drops(1),
        Column::text("QUEUE").drops(3),
        Column::number("RUNNING"),
        Column::number("QUEUED"),
        Column::number("AGAIN"),
        Column::text("DEFAULT").drops(4),
    ]);
    for machine in &view.machines {
        for state in &machine.states {
            table.row(
                [
                    machine.machine.clone(),
                    state.state.clone(),
                    state.attempts.value.to_string(),
                    span_or_none(state.deadline_ms.value),
                    span(state.longest_wait_ms.value),
                    state.queue.clone().unwrap_or_else(|| "-".to_owned()),
                    state.running.to_string(),
                    state.queued.to_string(),
                    state.waiting.to_string(),
                    differences(state, view.wait_factor),
                ]
                .map(|cell| pen.text(&cell)),
            );
        }
    }
    table
}

fn queues(pen: Pen, queues: &[QueueView]) -> Table {
    let mut table = Table::new(&[
        Column::text("QUEUE"),
        Column::number("LIMIT"),
        Column::number("RUNNING"),
        Column::number("QUEUED"),
        Column::text("DEFAULT"),
    ]);
    let limit = |limit: Option<u32>| limit.map_or_else(|| "none".to_owned(), |n| n.to_string());
    for queue in queues {
        let Setting { value, default } = queue.limit;
        table.row(
            [
                queue.queue.clone(),
                limit(value),
                queue.running.to_string(),
                queue.queued.to_string(),
                if value == default { "-".to_owned() } else { limit(default) },
            ]
            .map(|cell| pen.text(&cell)),
        );
    }
    table
}

/// What would hold by default, where that is something else.
fn differences(state: &StateRules, factor: Setting<u32>) -> String {
    let mut different = Vec::new();
    if state.attempts.value != state.attempts.default {
        different.push(format!("attempts {}", state.attempts.default));
    }
    if state.deadline_ms.value != state.deadline_ms.default {
        different.push(format!("deadline {}", span_or_none(state.deadline_ms.default)));
    }
    if state.first_wait_ms.value != state.first_wait_ms.default {
        different.push(format!("first wait {}", span(state.first_wait_ms.default)));
    }
    if state.longest_wait_ms.value != state.longest_wait_ms.default {
        different.push(format!("longest wait {}", span(state.longest_wait_ms.default)));
    }
    if factor.value != factor.default {
        different.push(format!("factor {}", factor.default));
    }
    if different.is_empty() { "-".to_owned() } else { different.join(", ") }
}

/// A length of time as `daemon.toml` has it.
fn span(ms: u64) -> String {
    TimeSpan::millis(ms).to_string()
}

fn span_or_none(ms: Option<u64>) -> String {
    ms.map_or_else(|| "none".to_owned(), span)
}
