//! Operators' runs: each a chain of flows.

mod page;
mod schedule;

use airlock_policy::digest::Digest;
use airlock_policy::name::SnapshotName;
use airlock_protocol::control::{Activation, Fault, RUN_DIGITS, Reused, RunId, RunKind};
use rusqlite::{OptionalExtension as _, Row, Transaction};
use serde::{Deserialize, Serialize};

use super::flow::FlowId;
use super::unreadable::{BadRecord, Key};
use super::{StoreFault, now, parsed};
use crate::flow::rules::random;

pub(super) use page::end_of;
pub use page::{RunCursor, RunFilter, page};
pub use schedule::{
    Schedule, children, due, following, next_time, not_begun, open_parents, parent_of, release,
};

/// How a run stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It goes on.
    Running,
    /// It came to its end.
    Done,
    /// It failed for good.
    Failed,
    /// The operator cancelled it.
    Cancelled,
}

impl Standing {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Running, "running"),
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
    ];

    /// The standing of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(standing, _)| *standing)
    }

    /// The name stored in the database.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(standing, _)| *standing == self).map_or("", |(_, name)| name)
    }
}

/// What the flows of a run have brought so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tally {
    /// The image's name.
    pub image: Option<String>,
    /// The snapshot's name.
    pub snapshot: Option<SnapshotName>,
    /// The device's size.
    pub device_bytes: Option<u64>,
    /// What was not done because it was so already.
    pub reused: Reused,
    /// Whether anything changed at all.
    pub changed: bool,
    /// Bytes fetched from the source.
    pub fetched_bytes: u64,
}

/// A run as it is stored.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// What two runs have in common that would do the same.
    pub key: String,
    /// What it works on, as people call it.
    pub subject: String,
    /// The source, where it has one.
    pub source: Option<String>,
    /// The image, once known.
    pub image: Option<Digest>,
    /// How it activates, where it does.
    pub activation: Option<Activation>,
    /// The layer that it unpacks.
    pub position: u32,
    /// The flow that it is at.
    pub flow: Option<FlowId>,
    /// How it stands.
    pub standing: Standing,
    /// What its flows have brought.
    pub tally: Tally,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// The operator's request.
    pub request: String,
    /// The user who asked.
    pub uid: u32,
    /// When.
    pub submitted_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Whether it could not be read, and this is what is left of it.
    pub set_aside: bool,
    /// The run that it does again.
    pub retry_of: Option<RunId>,
    /// When it begins, and which others it belongs with.
    pub schedule: Schedule,
}

const KINDS: [(RunKind, &str); 3] =
    [(RunKind::Pull, "pull"), (RunKind::Activate, "activate"), (RunKind::Run, "run")];

/// The name of a kind, as it is stored.
pub fn kind_name(kind: RunKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

/// The kind of this name.
pub(super) fn kind_of(name: &str) -> Option<RunKind> {
    KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
}

const COLUMNS: &str = "id, kind, key, subject, source, image, activation, position, flow, state, \
                       tally, fault, request, uid, submitted_at, ended_at, retry_of, \
                       wanted, follows, released, runs_anyway, not_before, parent, members, place, \
                       EXISTS (SELECT 1 FROM unreadable u WHERE u.kind = 'run' AND u.id = runs.id) \
                       AS set_aside";

pub(super) fn run(row: &Row<'_>) -> Result<RunRow, StoreFault> {
    let key = row.get_ref("id")?.as_bytes().map_or_else(|_none| Vec::new(), <[u8]>::to_vec);
    columns(row).map_err(|error| BadRecord::of(Key::Run(key), error))
}

fn columns(row: &Row<'_>) -> Result<RunRow, StoreFault> {
    let text = |column: &str| row.get::<_, String>(column);
    let maybe = |column: &str| row.get::<_, Option<String>>(column);
    let (kind, state) = (text("kind")?, text("state")?);
    let (kind, standing) = (kind_of(&kind), Standing::of(&state));
    let json = |text: Option<String>| text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(RunRow {
        id: parsed(&text("id")?, "runs.id")?,
        kind: kind.ok_or(StoreFault::Unreadable("runs.kind"))?,
        key: text("key")?,
        subject: text("subject")?,
        source: maybe("source")?,
        image: maybe("image")?.map(|digest| parsed(&digest, "runs.image")).transpose()?,
        activation: maybe("activation")?.map(|json| serde_json::from_str(&json)).transpose()?,
        position: row.get("position")?,
        flow: row.get("flow")?,
        standing: standing.ok_or(StoreFault::Unreadable("runs.state"))?,
        tally: serde_json::from_str(&text("tally")?)?,
        fault: json(maybe("fault")?)?,
        request: text("request")?,
        uid: row.get("uid")?,
        submitted_at: row.get("submitted_at")?,
        ended_at: row.get("ended_at")?,
        set_aside: row.get("set_aside")?,
        retry_of: maybe("retry_of")?.map(|id| parsed(&id, "runs.retry_of")).transpose()?,
        schedule: Schedule {
            wanted: maybe("wanted")?,
            follows: maybe("follows")?.map(|id| parsed(&id, "runs.follows")).transpose()?,
            released: row.get("released")?,
            runs_anyway: row.get("runs_anyway")?,
            not_before: row.get("not_before")?,
            parent: maybe("parent")?.map(|id| parsed(&id, "runs.parent")).transpose()?,
            members: row.get("members")?,
            place: row.get("place")?,
        },
    })
}

fn many(
    tx: &Transaction<'_>,
    filter: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<RunRow>, StoreFault> {
    from(tx, "runs", filter, parameters)
}

fn from(
    tx: &Transaction<'_>,
    table: &str,
    filter: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<RunRow>, StoreFault> {
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE {filter}");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(run(row)?);
    }
    Ok(found)
}

/// The run of this id.
pub fn find(tx: &Transaction<'_>, id: &RunId) -> Result<Option<RunRow>, StoreFault> {
    Ok(many(tx, "id = ?1", [id.as_str()])?.pop())
}

/// Whether there is such a run, and it has not ended.
pub fn goes_on(tx: &Transaction<'_>, id: &RunId) -> Result<bool, StoreFault> {
    let sql = "SELECT 1 FROM runs WHERE id = ?1 AND ended_at IS NULL";
    Ok(tx.prepare_cached(sql)?.exists([id.as_str()])?)
}

/// The run that does this now, if any.
pub fn active(tx: &Transaction<'_>, key: &str) -> Result<Option<RunRow>, StoreFault> {
    Ok(many(tx, "key = ?1 AND ended_at IS NULL", [key])?.pop())
}

/// The ids of the runs that have not ended and are at this flow.
pub fn ids_at(tx: &Transaction<'_>, flow: FlowId) -> Result<Vec<String>, StoreFault> {
    let sql = "SELECT id FROM runs WHERE flow = ?1 AND ended_at IS NULL";
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map([flow], |row| row.get(0))?;
    Ok(rows.filter_map(Result::ok).collect())
}

/// The runs that have not ended and are at this flow.
pub fn at_flow(tx: &Transaction<'_>, flow: FlowId) -> Result<Vec<RunRow>, StoreFault> {
    many(tx, "flow = ?1 AND ended_at IS NULL", [flow])
}

/// The id of a run that has not ended and works on this image.
pub fn works_on(tx: &Transaction<'_>, image: Digest) -> Result<Option<String>, StoreFault> {
    let sql = "SELECT CAST(id AS BLOB) FROM runs WHERE image = ?1 AND ended_at IS NULL LIMIT 1";
    let id = tx.prepare_cached(sql)?.query_row([image.to_string()], |row| row.get::<_, Vec<u8>>(0));
    Ok(id.optional()?.map(|id| String::from_utf8_lossy(&id).into_owned()))
}

/// Reads every run that has not ended: answers the error of the first that cannot be read.
pub fn read_all(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    many(tx, "ended_at IS NULL", []).map(drop)
}

/// Runs that have not ended, and whose flow has: nothing would ever move them.
pub fn stranded(tx: &Transaction<'_>) -> Result<Vec<RunRow>, StoreFault> {
    many(
        tx,
        "ended_at IS NULL AND flow IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM flows f WHERE f.id = runs.flow AND f.ended_at IS NULL)",
        [],
    )
}

/// An id that no run has.
pub fn fresh_id(tx: &Transaction<'_>) -> Result<RunId, StoreFault> {
    // 40 random bits: a clash is looked for all the same, a few times.
    for _ in 0..16 {
        let mut bits = u64::from(random()) << 32 | u64::from(random());
        let mut text = String::new();
        for _ in 0..8 {
            let digit = usize::try_from(bits & 31).unwrap_or(0);
            text.push(RUN_DIGITS.get(digit).copied().map_or('0', char::from));
            bits >>= 5;
        }
        let id = RunId::try_from(text).map_err(|_invalid| StoreFault::Unreadable("runs.id"))?;
        let taken = "SELECT 1 FROM runs WHERE id = ?1 \
                     UNION ALL SELECT 1 FROM archived_runs WHERE id = ?1";
        if !tx.prepare_cached(taken)?.exists([id.as_str()])? {
            return Ok(id);
        }
    }
    Err(StoreFault::Unreadable("runs.id"))
}

/// The newest run that does this one again.
pub fn retried_as(tx: &Transaction<'_>, run: &RunId) -> Result<Option<RunId>, StoreFault> {
    let sql = "SELECT id FROM runs WHERE retry_of = ?1 ORDER BY submitted_at DESC LIMIT 1";
    let mut statement = tx.prepare_cached(sql)?;
    let found: Option<String> = statement.query_row([run.as_str()], |row| row.get(0)).optional()?;
    found.map(|id| parsed(&id, "runs.id")).transpose()
}

/// Runs that could not be read, and which the operator is not done with, the last ones.
pub fn set_aside(tx: &Transaction<'_>) -> Result<Vec<RunRow>, StoreFault> {
    many(
        tx,
        "id IN (SELECT id FROM unreadable WHERE kind = 'run' AND settled_at IS NULL \
         ORDER BY since DESC LIMIT 50)",
        [],
    )
}

/// Records a new run, at no flow yet.
pub fn insert(tx: &Transaction<'_>, run: &RunRow) -> Result<(), StoreFault> {
    let activation = run.activation.as_ref().map(serde_json::to_string).transpose()?;
    tx.prepare_cached(
        "INSERT INTO runs (id, kind, key, subject, source, image, activation, position, state, \
         tally, request, uid, submitted_at, wanted, follows, runs_anyway, not_before, parent, \
         members, place, retry_of) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'running', ?9, ?10, \
         ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?
    .execute(rusqlite::params![
        run.id.as_str(),
        kind_name(run.kind),
        &run.key,
        &run.subject,
        &run.source,
        run.image.map(|image| image.to_string()),
        activation,
        run.position,
        serde_json::to_string(&run.tally)?,
        &run.request,
        run.uid,
        run.submitted_at,
        run.schedule.wanted,
        run.schedule.follows.as_ref().map(RunId::as_str),
        run.schedule.runs_anyway,
        run.schedule.not_before,
        run.schedule.parent.as_ref().map(RunId::as_str),
        run.schedule.members,
        run.schedule.place,
        run.retry_of.as_ref().map(RunId::as_str),
    ])?;
    Ok(())
}

/// Writes what changed in a run that goes on: its subject, image, position, tally.
pub fn update(tx: &Transaction<'_>, run: &RunRow) -> Result<(), StoreFault> {
    tx.prepare_cached(
        "UPDATE runs SET image = ?2, position = ?3, tally = ?4, subject = ?5 \
         WHERE id = ?1 AND ended_at IS NULL",
    )?
    .execute((
        run.id.as_str(),
        run.image.map(|image| image.to_string()),
        run.position,
        serde_json::to_string(&run.tally)?,
        &run.subject,
    ))?;
    Ok(())
}

/// Puts a run at a flow.
pub fn attach(tx: &Transaction<'_>, run: &RunId, flow: FlowId) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE runs SET flow = ?2 WHERE id = ?1")?.execute((run.as_str(), flow))?;
    tx.prepare_cached("INSERT OR IGNORE INTO run_flows VALUES (?1, ?2)")?
        .execute((run.as_str(), flow))?;
    Ok(())
}

/// Ends a run. False where it had ended before.
pub fn end(
    tx: &Transaction<'_>,
    run: &RunId,
    standing: Standing,
    fault: Option<&Fault>,
) -> Result<bool, StoreFault> {
    let fault = fault.map(serde_json::to_string).transpose()?;
    let ended = tx
        .prepare_cached(
            "UPDATE runs SET state = ?2, fault = ?3, ended_at = ?4 \
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute((run.as_str(), standing.name(), fault, now()))?;
    Ok(ended == 1)
}

/// The flows of a run, in the order it came to them.
pub fn flows(tx: &Transaction<'_>, run: &RunId) -> Result<Vec<FlowId>, StoreFault> {
    let mut statement =
        tx.prepare_cached("SELECT flow FROM run_flows WHERE run = ?1 ORDER BY flow")?;
    let rows = statement.query_map([run.as_str()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The runs that have a flow in common with others, or had.
pub fn of_flow(tx: &Transaction<'_>, flow: FlowId) -> Result<Vec<RunId>, StoreFault> {
    let mut statement = tx.prepare_cached("SELECT run FROM run_flows WHERE flow = ?1")?;
    let rows = statement.query_map([flow], |row| row.get::<_, String>(0))?;
    // One that is no id is that of a record that cannot be read: nobody watches it.
    Ok(rows.filter_map(|id| id.ok()?.parse().ok()).collect())
}
