//! Each start of the daemon is an epoch: only the newest one may write.
//!
//! The lock of the state directory sees to it that there is one daemon. Should that ever fail, a
//! file system that forgot a lock, a clone of a machine, then the process that came first finds
//! its epoch to be an old one, and moves nothing any more. Nothing has to be taken back from it,
//! and what it leaves bars nobody.

use rusqlite::{OptionalExtension as _, Transaction};

use super::{StoreFault, now};

/// How the daemon before this one came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It stopped of its own will.
    Stopped,
    /// It died, and the machine went on: devices and mounts are as they were.
    Died,
    /// The machine has started anew since: no device is left, and nothing that was not flushed.
    Rebooted,
}

/// This start of the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epoch {
    /// Its number: the fencing token.
    pub number: i64,
    /// How the one before ended; `None` at the first start.
    pub before: Option<Ending>,
}

/// How many are kept.
const KEPT: i64 = 1000;

/// Where the kernel tells which start of the machine this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Begins an epoch: all before it end here, whether their processes know or not.
pub(super) fn begin(tx: &Transaction<'_>) -> Result<Epoch, StoreFault> {
    let path = std::path::PathBuf::from(BOOT_ID);
    let boot_id = std::fs::read_to_string(&path);
    let boot_id = boot_id.map_err(|source| StoreFault::File { path, source })?;
    let boot_id = boot_id.trim();
    let newest = "SELECT boot_id, stopped_at FROM epochs ORDER BY epoch DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    let before: Option<(String, Option<i64>)> = tx.query_row(newest, [], read).optional()?;
    let before = before.map(|(boot, stopped_at)| match stopped_at {
        _ if boot != boot_id => Ending::Rebooted,
        Some(_) => Ending::Stopped,
        None => Ending::Died,
    });
    tx.execute(
        "INSERT INTO epochs (boot_id, pid, started_at) VALUES (?1, ?2, ?3)",
        (boot_id, std::process::id(), now()),
    )?;
    let number = tx.last_insert_rowid();
    tx.execute("DELETE FROM epochs WHERE epoch <= ?1 - ?2", (number, KEPT))?;
    Ok(Epoch { number, before })
}

/// Refuses a process whose epoch is over.
pub(super) fn guard(tx: &Transaction<'_>, epoch: i64) -> Result<(), StoreFault> {
    let newest = "SELECT max(epoch) FROM epochs";
    let newest: Option<i64> = tx.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    if newest == Some(epoch) { Ok(()) } else { Err(StoreFault::Superseded) }
}

/// Notes that this epoch ends of the daemon's own will.
pub(super) fn end(tx: &Transaction<'_>, epoch: i64) -> Result<(), StoreFault> {
    tx.execute("UPDATE epochs SET stopped_at = ?2 WHERE epoch = ?1", (epoch, now()))?;
    Ok(())
}
