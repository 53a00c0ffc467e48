//! Flows and their event log: every move is one update, guarded, and one appended step.

use airlock_protocol::control::{RunId, Timing};
use rusqlite::{Row, Transaction};

use super::unreadable::{self, BadRecord, Key};
use super::{StoreFault, now};

/// A flow's number.
pub type FlowId = i64;

/// A flow as it is stored.
#[derive(Clone, Debug)]
pub struct FlowRow {
    /// Its number.
    pub id: FlowId,
    /// Its machine's name.
    pub machine: String,
    /// The version of the machine's definition it was begun with.
    pub definition: u32,
    /// What it works on: unique among the machine's flows that have not ended.
    pub subject: String,
    /// Its state's name.
    pub state: String,
    /// How many steps it has made.
    pub step: i64,
    /// The attempt at this state, from 1.
    pub attempt: u32,
    /// How often the daemon died in this state.
    pub interruptions: u32,
    /// What it was begun with, as JSON.
    pub input: String,
    /// What its steps have found so far, as JSON.
    pub data: String,
    /// Why the last attempt failed, as JSON.
    pub fault: Option<String>,
    /// The operator's request that it is done for.
    pub request: String,
    /// When it ended.
    pub ended_at: Option<i64>,
}

/// A flow to begin.
#[derive(Clone, Debug)]
pub struct NewFlow {
    /// The machine's name.
    pub machine: &'static str,
    /// The version of its definition.
    pub definition: u32,
    /// What it works on.
    pub subject: String,
    /// The machine's first state.
    pub state: &'static str,
    /// The input, as JSON.
    pub input: String,
    /// The operator's request.
    pub request: String,
}

/// A move of a flow: from where it was read to be, to where it shall be.
#[derive(Clone, Debug)]
pub struct Move {
    /// The flow as it was read.
    pub from: FlowRow,
    /// What happened.
    pub event: &'static str,
    /// The new state's name.
    pub target: &'static str,
    /// The attempt that the new state is at.
    pub attempt: u32,
    /// Whether the new state is an end.
    pub ends: bool,
    /// The subject from now on.
    pub subject: String,
    /// What the steps have found so far, as JSON.
    pub data: String,
    /// Why the attempt failed, as JSON.
    pub fault: Option<String>,
    /// When the attempt began.
    pub started_at: i64,
    /// One line of what came of it.
    pub outcome: Option<String>,
    /// What of the attempt was measured by itself.
    pub timings: Vec<Timing>,
}

const COLUMNS: &str = "id, machine, definition, subject, state, step, attempt, interruptions, \
                       input, data, fault, request, ended_at";

fn read(row: &Row<'_>) -> Result<FlowRow, StoreFault> {
    let id = row.get(0)?;
    columns(row).map_err(|error| BadRecord::of(Key::Flow(id), error.into()))
}

fn columns(row: &Row<'_>) -> rusqlite::Result<FlowRow> {
    Ok(FlowRow {
        id: row.get(0)?,
        machine: row.get(1)?,
        definition: row.get(2)?,
        subject: row.get(3)?,
        state: row.get(4)?,
        step: row.get(5)?,
        attempt: row.get(6)?,
        interruptions: row.get(7)?,
        input: row.get(8)?,
        data: row.get(9)?,
        fault: row.get(10)?,
        request: row.get(11)?,
        ended_at: row.get(12)?,
    })
}

/// The flow of this number.
pub fn find(tx: &Transaction<'_>, id: FlowId) -> Result<FlowRow, StoreFault> {
    let sql = format!("SELECT {COLUMNS} FROM flows WHERE id = ?1");
    let mut statement = tx.prepare_cached(&sql)?;
    read(statement.query([id])?.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
}

/// The flow that works on this subject now, if any does.
pub fn active(
    tx: &Transaction<'_>,
    machine: &str,
    subject: &str,
) -> Result<Option<FlowRow>, StoreFault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM flows WHERE machine = ?1 AND subject = ?2 AND ended_at IS NULL"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    statement.query([machine, subject])?.next()?.map(read).transpose()
}

/// Whether a flow works on this subject now.
pub fn is_active(tx: &Transaction<'_>, machine: &str, subject: &str) -> Result<bool, StoreFault> {
    let sql = "SELECT 1 FROM flows WHERE machine = ?1 AND subject = ?2 AND ended_at IS NULL";
    Ok(tx.prepare_cached(sql)?.exists([machine, subject])?)
}

/// The numbers of the flows that have not ended, oldest first.
pub fn going_on(tx: &Transaction<'_>) -> Result<Vec<FlowId>, StoreFault> {
    let mut statement =
        tx.prepare_cached("SELECT id FROM flows WHERE ended_at IS NULL ORDER BY id")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last flow that was begun on this subject, ended or not.
pub fn newest(
    tx: &Transaction<'_>,
    machine: &str,
    subject: &str,
) -> Result<Option<FlowId>, StoreFault> {
    let sql = "SELECT id FROM flows WHERE machine = ?1 AND subject = ?2 ORDER BY id DESC LIMIT 1";
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query([machine, subject])?.next()?.map(|row| row.get(0)).transpose()?)
}

/// Takes a flow up: from now on it is this epoch's, and no older one moves it.
pub fn take_up(tx: &Transaction<'_>, id: FlowId) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE flows SET epoch = (SELECT max(epoch) FROM epochs) WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Every flow that has not ended, oldest first.
pub fn unfinished(tx: &Transaction<'_>) -> Result<Vec<FlowRow>, StoreFault> {
    let sql = format!("SELECT {COLUMNS} FROM flows WHERE ended_at IS NULL ORDER BY id");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Begins a flow. Its subject must be free: see [`active`].
pub fn begin(tx: &Transaction<'_>, new: &NewFlow) -> Result<FlowId, StoreFault> {
    let NewFlow { machine, definition, subject, state, input, request } = new;
    tx.prepare_cached(
        "INSERT INTO flows (machine, definition, subject, state, step, attempt, interruptions, \
         input, data, request, created_at, changed_at, epoch) \
         VALUES (?1, ?2, ?3, ?4, 0, 1, 0, ?5, '{}', ?6, ?7, ?7, (SELECT max(epoch) FROM epochs))",
    )?
    .execute((machine, definition, subject, state, input, request, now()))?;
    Ok(tx.last_insert_rowid())
}

/// Moves a flow and appends the step. The foreign key into `transition` refuses a move that the
/// machine's table does not have.
pub fn advance(tx: &Transaction<'_>, step: &Move) -> Result<(), StoreFault> {
    let Move { from, event, target, attempt, ends, subject, data, fault, .. } = step;
    let Move { started_at, outcome, timings, .. } = step;
    let timings = (!timings.is_empty()).then(|| serde_json::to_string(timings)).transpose()?;
    let now = now();
    let stays = *target == from.state;
    let moved = tx
        .prepare_cached(
            "UPDATE flows SET state = ?4, step = step + 1, attempt = ?5, data = ?6, fault = ?7, \
             subject = ?8, changed_at = ?9, ended_at = CASE WHEN ?10 THEN ?9 END, \
             interruptions = CASE WHEN ?11 THEN interruptions ELSE 0 END \
             WHERE id = ?1 AND step = ?2 AND state = ?3 AND ended_at IS NULL \
             AND epoch = (SELECT max(epoch) FROM epochs)",
        )?
        .execute((
            from.id,
            from.step,
            &from.state,
            target,
            attempt,
            data,
            fault,
            subject,
            now,
            ends,
            stays,
        ))?;
    if moved != 1 {
        return Err(StoreFault::Moved);
    }
    tx.prepare_cached(
        "INSERT INTO steps (flow, step, machine, source, event, target, attempt, started_at, \
         took_ms, outcome, timings) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute((
        from.id,
        from.step,
        &from.machine,
        &from.state,
        event,
        target,
        from.attempt,
        started_at,
        now.saturating_sub(*started_at).max(0),
        outcome,
        timings,
    ))?;
    Ok(())
}

/// Notes that the daemon died while this flow was in its state. Answers how often it has by now.
pub fn note_interruption(tx: &Transaction<'_>, flow: &FlowRow) -> Result<u32, StoreFault> {
    let target: String = flow.state.clone();
    tx.prepare_cached(
        "INSERT INTO steps (flow, step, machine, source, event, target, attempt, started_at, \
         took_ms, outcome) SELECT id, step, machine, state, ?2, ?3, attempt, changed_at, 0, \
         'the daemon died' FROM flows WHERE id = ?1",
    )?
    .execute((flow.id, crate::flow::machine::INTERRUPTED, target))?;
    tx.prepare_cached(
        "UPDATE flows SET step = step + 1, interruptions = interruptions + 1 WHERE id = ?1",
    )?
    .execute([flow.id])?;
    Ok(flow.interruptions.saturating_add(1))
}

/// A step as the event log holds it.
#[derive(Clone, Debug)]
pub struct StepRow {
    /// The flow.
    pub flow: FlowId,
    /// The machine.
    pub machine: String,
    /// The state it was made in.
    pub source: String,
    /// What happened.
    pub event: String,
    /// The attempt.
    pub attempt: u32,
    /// When it began.
    pub started_at: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What came of it.
    pub outcome: Option<String>,
    /// What of it was measured by itself.
    pub timings: Vec<Timing>,
}

/// The flows of a run, in the order it came to them.
pub fn of_run(tx: &Transaction<'_>, run: &RunId) -> Result<Vec<FlowRow>, StoreFault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM run_flows JOIN flows ON flows.id = run_flows.flow \
         WHERE run_flows.run = ?1 ORDER BY run_flows.flow"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query([run.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(flow) => found.push(flow),
            // Of one that was set aside nothing can be shown but that: the run's fault says so.
            Err(StoreFault::Record(bad)) if unreadable::holds(tx, &bad.key)? => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The steps of a run's flows, in their order; with what was measured only where asked for.
pub fn steps(
    tx: &Transaction<'_>,
    run: &RunId,
    with_timings: bool,
) -> Result<Vec<StepRow>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT steps.flow, machine, source, event, attempt, started_at, took_ms, outcome, \
         CASE WHEN ?2 THEN timings END FROM run_flows JOIN steps ON steps.flow = run_flows.flow \
         WHERE run_flows.run = ?1 ORDER BY run_flows.flow, steps.step",
    )?;
    let rows = statement.query_map((run.as_str(), with_timings), |row| {
        let timings: Option<String> = row.get(8)?;
        // What cannot be read of it is as good as not measured.
        let timings = timings.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        Ok(StepRow {
            flow: row.get(0)?,
            machine: row.get(1)?,
            source: row.get(2)?,
            event: row.get(3)?,
            attempt: row.get(4)?,
            started_at: row.get(5)?,
            took_ms: super::unsigned(row.get(6)?),
            outcome: row.get(7)?,
            timings,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The data and inputs of downloads that go on, or that failed since that time: what they have
/// fetched so far is kept for the next try.
pub fn downloads_since(
    tx: &Transaction<'_>,
    machine: &str,
    since: i64,
) -> Result<Vec<(String, String)>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT input, data FROM flows WHERE machine = ?1 AND (ended_at IS NULL \
         OR (ended_at >= ?2 AND state IN ('failed', 'cancelled')))",
    )?;
    let rows = statement.query_map((machine, since), |row| Ok((row.get(0)?, row.get(1)?)))?;
    // What cannot be read keeps nothing, and hinders no other.
    Ok(rows.filter_map(Result::ok).collect())
}
