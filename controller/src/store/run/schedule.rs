//! When runs begin, and which others they belong with.

use airlock_protocol::control::RunId;
use rusqlite::{OptionalExtension as _, Transaction};

use super::{RunRow, find, from, many};
use crate::store::StoreFault;

/// When a run begins, and which others it belongs with.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// The image as the operator named it, where it is looked for when the run begins.
    pub wanted: Option<String>,
    /// The run that it follows.
    pub follows: Option<RunId>,
    /// Whether that one has ended in a way that lets it begin.
    pub released: bool,
    /// Whether it begins also if that one was not done.
    pub runs_anyway: bool,
    /// It does not begin before.
    pub not_before: Option<i64>,
    /// The run that stands for all of its command.
    pub parent: Option<RunId>,
    /// How many it stands for itself.
    pub members: u32,
    /// Its place among its parent's children.
    pub place: u32,
}

/// The runs that begin at a time. SQLite knows nothing of how few these are.
const BY_TIME: &str = "runs INDEXED BY runs_to_begin";

/// Runs that have not begun, oldest first.
pub fn not_begun(tx: &Transaction<'_>) -> Result<Vec<RunRow>, StoreFault> {
    many(tx, "ended_at IS NULL AND flow IS NULL AND members = 0 ORDER BY submitted_at, id", [])
}

/// Runs that have not begun, that wait for no other, and whose time has come.
pub fn due(tx: &Transaction<'_>, time: i64) -> Result<Vec<RunRow>, StoreFault> {
    let filter = "ended_at IS NULL AND flow IS NULL AND members = 0 AND not_before <= ?1 \
                  AND (follows IS NULL OR released = 1) ORDER BY not_before, id";
    from(tx, BY_TIME, filter, [time])
}

/// The next time at which a run is due that waits for no other.
pub fn next_time(tx: &Transaction<'_>) -> Result<Option<i64>, StoreFault> {
    let sql = format!(
        "SELECT not_before FROM {BY_TIME} WHERE ended_at IS NULL AND flow IS NULL \
         AND members = 0 AND not_before IS NOT NULL AND (follows IS NULL OR released = 1) \
         ORDER BY not_before LIMIT 1"
    );
    Ok(tx.prepare_cached(&sql)?.query_row([], |row| row.get(0)).optional()?)
}

/// Runs that have not begun and follow this one.
pub fn following(tx: &Transaction<'_>, run: &RunId) -> Result<Vec<RunRow>, StoreFault> {
    let filter = "follows = ?1 AND ended_at IS NULL AND flow IS NULL AND members = 0 \
                  AND released = 0 ORDER BY id";
    many(tx, filter, [run.as_str()])
}

/// Notes that the run before has ended in a way that lets this one begin.
pub fn release(tx: &Transaction<'_>, run: &RunId) -> Result<(), StoreFault> {
    tx.prepare_cached("UPDATE runs SET released = 1 WHERE id = ?1")?.execute([run.as_str()])?;
    Ok(())
}

/// The children of a run, in the order of its command.
pub fn children(tx: &Transaction<'_>, run: &RunId) -> Result<Vec<RunRow>, StoreFault> {
    many(tx, "parent = ?1 ORDER BY place", [run.as_str()])
}

/// The run that stands for this one.
pub fn parent_of(tx: &Transaction<'_>, run: &RunId) -> Result<Option<RunId>, StoreFault> {
    Ok(find(tx, run)?.and_then(|row| row.schedule.parent))
}

/// Runs that stand for others and have not ended.
pub fn open_parents(tx: &Transaction<'_>) -> Result<Vec<RunId>, StoreFault> {
    Ok(many(tx, "ended_at IS NULL AND members > 0", [])?.into_iter().map(|row| row.id).collect())
}
