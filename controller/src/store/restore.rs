//! Restoring: a backup takes the database's place, and nothing that was there is deleted.
//!
//! Whoever calls these holds the state directory's lock, so that no daemon uses the database.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use airlock_protocol::control::ErrorClass;
use rusqlite::{Connection, OpenFlags, Transaction};
use rustix::fs::{Gid, Uid};

use super::{RESTORED, StoreFault, backup, connection, file_of, migrate, now, set_meta};
use crate::fault::{Explain as _, fault};

/// What stood in the database's place is kept under this name, with the time behind it.
const SET_ASIDE: &str = "set-aside-";

/// Checks a database without changing it; says the version of its schema.
pub fn check_file(path: &Path) -> Result<usize, StoreFault> {
    require_file(path)?;
    let connection = connection::look(path)?;
    connection::check(&connection)?;
    Ok(migrate::verified(&connection, migrate::ALL)?)
}

/// Drops what was under way when the backup was made. It may have been done, undone and asked for
/// in another way since: an old intent that is carried out today could delete what is in use.
pub(super) fn drop_intents(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    let why = fault(ErrorClass::Conflict, "db.restored", "the database was restored from a backup")
        .next("airlock doctor --fix");
    let why = serde_json::to_string(&why)?;
    let runs = "UPDATE runs SET state = 'failed', fault = ?2, ended_at = ?1 WHERE ended_at IS NULL";
    tx.execute(runs, (now(), &why))?;
    let flows =
        "UPDATE flows SET state = 'failed', fault = ?2, ended_at = ?1 WHERE ended_at IS NULL";
    tx.execute(flows, (now(), &why))?;
    tx.execute("UPDATE snapshots SET state = 'active' WHERE state = 'leaving'", [])?;
    tx.execute("DELETE FROM doomed", [])?;
    Ok(())
}

/// Copies a database that may be in use into a new file.
pub fn back_up_file(path: &Path, to: &Path) -> Result<(), StoreFault> {
    require_file(path)?;
    if to.symlink_metadata().is_ok() {
        let source = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(StoreFault::File { path: to.to_owned(), source });
    }
    backup::copy(&connection::look(path)?, to)
}

/// Puts a backup in the database's place. Answers under which name the database that was there is
/// kept.
pub fn restore(state_dir: &Path, from: &Path) -> Result<Option<PathBuf>, StoreFault> {
    check_file(from)?;
    let new = state_dir.join("airlock.sqlite.restoring");
    backup::copy(&connection::look(from)?, &new)?;
    {
        let copy = connection::connect(&new, OpenFlags::empty())?;
        // The next start drops the intents of that day, and knows that blobs and volumes may be
        // there which this database does not know.
        set_meta(&copy, super::RECORDS, RESTORED)?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
    }
    let file = |source| StoreFault::File { path: new.clone(), source };
    own_as(&new, state_dir).map_err(file)?;
    OpenOptions::new().write(true).open(&new).and_then(|new| new.sync_all()).map_err(file)?;
    let old = keep_old(state_dir, false)?;
    let path = file_of(state_dir);
    let placed = fs::rename(&new, &path).and_then(|()| backup::sync_folder_of(&path));
    placed.map_err(|source| StoreFault::File { path, source })?;
    Ok(old)
}

/// Moves the database away, so that the next start makes a new one. Answers its new name.
pub fn set_aside(state_dir: &Path) -> Result<Option<PathBuf>, StoreFault> {
    keep_old(state_dir, true)
}

/// Gives the database a second name, with all that its journal holds; `away` takes the first.
fn keep_old(state_dir: &Path, away: bool) -> Result<Option<PathBuf>, StoreFault> {
    let path = file_of(state_dir);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = |end: &str| beside(&format!(".{SET_ASIDE}{time}{end}"));
    // Where it still can be read, the journal goes into the file; else both keep their names'
    // relation, by which SQLite finds one from the other.
    if let Err(error) = fold_journal(&path) {
        tracing::warn!(%error, "the journal of the old database stays beside it");
    }
    let moved = ["-wal", "-shm"].into_iter().try_for_each(|end| {
        match fs::rename(beside(end), aside(end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    });
    let old = aside("");
    let moved = moved
        .and_then(|()| if away { fs::rename(&path, &old) } else { fs::hard_link(&path, &old) });
    let moved = moved.and_then(|()| backup::sync_folder_of(&path));
    moved.map_err(|source| StoreFault::File { path: old.clone(), source })?;
    Ok(Some(old))
}

fn fold_journal(path: &Path) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_row| Ok(()))
}

/// Without this SQLite's word for a file that is not there is "unable to open".
fn require_file(path: &Path) -> Result<(), StoreFault> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(StoreFault::File { path: path.to_owned(), source }),
    }
}

/// Gives a file that root made to the state directory's owner, whose daemon is to use it.
pub(crate) fn own_as(file: &Path, folder: &Path) -> io::Result<()> {
    let (wanted, found) = (fs::metadata(folder)?, fs::metadata(file)?);
    if (wanted.uid(), wanted.gid()) != (found.uid(), found.gid()) {
        let (uid, gid) = (Uid::from_raw(wanted.uid()), Gid::from_raw(wanted.gid()));
        rustix::fs::chown(file, Some(uid), Some(gid))?;
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o640))
}
