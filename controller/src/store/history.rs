//! How the history of runs that ended long ago is removed: the run's row becomes a bare outcome,
//! and its flows and their steps go.
//!
//! What anything refers to stays: the schema's own references say so, and are what is asked. A
//! flow goes with the last run that went through it.

use airlock_protocol::control::RunId;
use rusqlite::{OptionalExtension as _, Transaction, ffi};

use super::flow::FlowId;
use super::run::{self, RunRow};
use super::{StoreFault, now};

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Runs that ended then or later are kept for their age.
    pub since: i64,
    /// So many of the newest runs that ended are kept, and no more.
    pub runs: u32,
    /// Runs that ended then or later without coming to their end are kept in any case: the next
    /// try goes on from what they have fetched.
    pub parts_since: i64,
}

/// A run that was looked at: when it ended, and its id.
pub type Place = (i64, String);

/// What a look at a few runs came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Archived {
    /// Runs whose history was removed.
    pub runs: u32,
    /// Flows that were removed.
    pub flows: u32,
    /// Runs that something refers to.
    pub referred: u32,
    /// The last one that was looked at; `None` where there is nothing left to look at.
    pub next: Option<Place>,
}

/// Looks at so many runs that are to go, oldest first, after that one, and removes their history.
pub fn archive(
    tx: &Transaction<'_>,
    keep: &Keep,
    after: Option<&Place>,
    limit: u32,
) -> Result<Archived, StoreFault> {
    let mut archived = Archived::default();
    for (ended_at, id) in to_go(tx, keep, after, limit)? {
        archived.next = Some((ended_at, id.clone()));
        // What cannot be read is set aside elsewhere, and hinders none behind it.
        let Ok(id) = id.parse::<RunId>() else { continue };
        let row = match run::find(tx, &id) {
            Ok(Some(row)) => row,
            Ok(None) | Err(StoreFault::Record(_)) => continue,
            Err(error) => return Err(error),
        };
        let flows = run::flows(tx, &id)?;
        if !unless_referred(tx.execute("DELETE FROM runs WHERE id = ?1", [id.as_str()]))? {
            archived.referred = archived.referred.saturating_add(1);
            continue;
        }
        record(tx, &row)?;
        archived.runs = archived.runs.saturating_add(1);
        for flow in flows {
            archived.flows = archived.flows.saturating_add(u32::from(remove_flow(tx, flow)?));
        }
    }
    Ok(archived)
}

/// Runs that are older than is kept, or more.
fn to_go(
    tx: &Transaction<'_>,
    keep: &Keep,
    after: Option<&Place>,
    limit: u32,
) -> Result<Vec<Place>, StoreFault> {
    // The newest run that is one too many: it goes, and what ended before it.
    let one_too_many: Option<Place> = tx
        .prepare_cached(
            "SELECT ended_at, id FROM runs WHERE ended_at IS NOT NULL \
             ORDER BY ended_at DESC, id DESC LIMIT 1 OFFSET ?1",
        )?
        .query_row([keep.runs], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // No id is empty: the oldest that its age keeps comes behind this.
    let too_old = (keep.since, String::new());
    let (until, last) = one_too_many.map_or(too_old.clone(), |place| place.max(too_old));
    let (time, id) = after.map_or((i64::MIN, ""), |(time, id)| (*time, id.as_str()));
    let mut statement = tx.prepare_cached(
        "SELECT ended_at, id FROM runs WHERE ended_at IS NOT NULL AND (ended_at, id) > (?1, ?2) \
         AND (ended_at, id) <= (?3, ?4) AND (state = 'done' OR ended_at < ?5) \
         AND NOT EXISTS (SELECT 1 FROM unreadable u WHERE u.kind = 'run' AND u.id = runs.id \
         AND u.settled_at IS NULL) ORDER BY ended_at, id LIMIT ?6",
    )?;
    let rows = statement.query_map((time, id, until, last, keep.parts_since, limit), |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether a row was removed; not where another one refers to it.
fn unless_referred(removed: rusqlite::Result<usize>) -> Result<bool, StoreFault> {
    match removed {
        Ok(rows) => Ok(rows > 0),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a flow that ended with its steps, unless a run went through it.
fn remove_flow(tx: &Transaction<'_>, flow: FlowId) -> Result<bool, StoreFault> {
    let sql = "DELETE FROM flows WHERE id = ?1 AND ended_at IS NOT NULL AND NOT EXISTS \
               (SELECT 1 FROM unreadable u WHERE u.kind = 'flow' AND u.id = CAST(?1 AS TEXT) \
               AND u.settled_at IS NULL)";
    unless_referred(tx.prepare_cached(sql)?.execute([flow]))
}

fn record(tx: &Transaction<'_>, row: &RunRow) -> Result<(), StoreFault> {
    let json = |fault| serde_json::to_string(fault);
    tx.prepare_cached(
        "INSERT INTO archived_runs VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute((
        row.id.as_str(),
        run::kind_name(row.kind),
        &row.subject,
        &row.source,
        row.image.map(|image| image.to_string()),
        row.activation.as_ref().map(serde_json::to_string).transpose()?,
        row.standing.name(),
        serde_json::to_string(&row.tally)?,
        row.fault.as_ref().map(json).transpose()?,
        &row.request,
        row.uid,
        row.submitted_at,
        row.ended_at,
        row.retry_of.as_ref().map(RunId::as_str),
        now(),
    ))?;
    Ok(())
}

/// The bare outcome of a run whose history was removed, and when that was.
pub fn find(tx: &Transaction<'_>, id: &RunId) -> Result<Option<(RunRow, i64)>, StoreFault> {
    let mut statement = tx.prepare_cached(
        "SELECT id, kind, '' AS key, subject, source, image, activation, 0 AS position, \
         NULL AS flow, state, tally, fault, request, uid, submitted_at, ended_at, retry_of, \
         0 AS set_aside, NULL AS wanted, NULL AS follows, 0 AS released, 0 AS runs_anyway, \
         NULL AS not_before, NULL AS parent, 0 AS members, 0 AS place, archived_at FROM archived_runs WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map(|row| Ok((run::run(row)?, row.get("archived_at")?))).transpose()
}

/// Removes at most so many outcomes whose history was removed before that time.
pub fn forget(tx: &Transaction<'_>, before: i64, limit: u32) -> Result<usize, StoreFault> {
    let sql = "DELETE FROM archived_runs WHERE id IN \
               (SELECT id FROM archived_runs WHERE archived_at < ?1 LIMIT ?2)";
    Ok(tx.prepare_cached(sql)?.execute((before, limit))?)
}
