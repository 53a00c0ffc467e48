//! Connections: each has every setting that the store's promises rest on, or is not used.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreFault;

/// How long a connection waits for another program that holds the database.
const BUSY: Duration = Duration::from_secs(5);

/// Opens a connection for the daemon, and sees that each setting took: `journal_mode` may be
/// refused without an error (<https://sqlite.org/pragma.html#pragma_journal_mode>).
pub(super) fn connect(path: &Path, more: OpenFlags) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A restored file is a stranger's: its schema may call nothing that has an effect.
    connection.pragma_update(None, "trusted_schema", false)?;
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if (journal.as_str(), number("synchronous")?, number("foreign_keys")?) != ("wal", 2, 1) {
        return Err(StoreFault::Settings);
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens a database that is only looked at: a backup, or the daemon's own beside the daemon.
pub(super) fn look(path: &Path) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Looks through a whole database for damage.
pub(super) fn check(connection: &Connection) -> Result<(), StoreFault> {
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreFault::Damaged(verdict));
    }
    let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
    if orphans.exists([])? {
        return Err(StoreFault::Damaged("a row refers to one that is not there".to_owned()));
    }
    Ok(())
}

/// Tables whose rows are set aside one by one where they cannot be read, so that a row of theirs
/// which breaks a constraint need not bar all others. Others hold what is believed as it stands.
const SET_ASIDE_BY_ROW: [&str; 4] = ["flows", "runs", "steps", "run_flows"];

/// Looks through a database that was left unclean. Rows that break a rule, in a file that is sound
/// otherwise, are no damage where they are dealt with one by one.
pub(super) fn check_at_start(connection: &Connection) -> Result<(), StoreFault> {
    let first = match check(connection) {
        Err(StoreFault::Damaged(first)) => first,
        sound_or_unknown => return sound_or_unknown,
    };
    let verdict = |table: &str| -> Result<(), StoreFault> {
        let sql = format!("PRAGMA integrity_check({table})");
        match connection.query_row(&sql, [], |row| row.get::<_, String>(0))?.as_str() {
            "ok" => Ok(()),
            damage => Err(StoreFault::Damaged(damage.to_owned())),
        }
    };
    // Without the rules of rows the whole file; with them every other table.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let whole = verdict("1");
    connection.pragma_update(None, "ignore_check_constraints", false)?;
    whole?;
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut names = connection.prepare(names)?;
    for name in names.query_map([], |row| row.get::<_, String>(0))? {
        let name = name?;
        if !SET_ASIDE_BY_ROW.contains(&name.as_str()) {
            verdict(&name)?;
        }
    }
    let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
    for table in orphans.query_map([], |row| row.get::<_, String>(0))? {
        if !SET_ASIDE_BY_ROW.contains(&table?.as_str()) {
            return Err(StoreFault::Damaged(first));
        }
    }
    tracing::warn!(damage = first, "rows of flows or runs are damaged: each will be set aside");
    Ok(())
}
