//! The daemon's memory: one SQLite database, one writer, any number of readers.
//!
//! A run, its event log and the domain's rows change in one transaction each time, or not at all.
//! The schema itself holds what must never be untrue: what is active was unpacked, what is
//! unpacked was fetched, and a flow only moves as its machine's table says.

pub mod flow;
pub mod image;
pub mod migrate;
pub mod run;
pub mod snapshot;
pub mod source;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use airlock_protocol::control::{ErrorClass, Fault};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::fault::{Explain as _, fault};
use migrate::MigrationFault;

/// The database did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// SQLite said no.
    #[error("failed to use the database")]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody else moved the flow: it is not where it was read to be.
    #[error("the flow is not in the state it was read in")]
    Moved,
    /// A column does not hold what this program writes there.
    #[error("the database holds something unreadable in {0}")]
    Unreadable(&'static str),
    /// A value could not be written as JSON, or a column is no JSON.
    #[error("failed to convert a value of the database")]
    Json(#[from] serde_json::Error),
    /// The schema could not be brought up to date.
    #[error("failed to bring the database's schema up to date")]
    Migration(#[from] MigrationFault),
    /// `PRAGMA integrity_check` found damage.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The file could not be reached.
    #[error("failed to reach {path}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that ran the statement is gone.
    #[error("the statement was not carried out: the daemon is stopping, or a bug ended it")]
    Interrupted,
}

impl StoreFault {
    /// Whether the same statement may work later: the disk is full, or another program holds the
    /// database.
    pub fn may_pass(&self) -> bool {
        let Self::Sqlite(error) = self else { return self.is_disk_full() };
        let held = [rusqlite::ErrorCode::DatabaseBusy, rusqlite::ErrorCode::DatabaseLocked];
        self.is_disk_full() || error.sqlite_error_code().is_some_and(|code| held.contains(&code))
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Moved
            | Self::Unreadable(_)
            | Self::Json(_)
            | Self::Migration(_)
            | Self::Damaged(_)
            | Self::Interrupted => false,
        }
    }

    /// The fault as people are told it.
    pub fn fault(&self) -> Fault {
        if self.is_disk_full() {
            return fault(
                ErrorClass::Unavailable,
                "disk.full",
                "the disk of the state directory is full",
            )
            .because(self)
            .next("df -h /var/lib/airlock")
            .next("airlock images");
        }
        if matches!(self, Self::Damaged(_)) {
            return fault(ErrorClass::Unavailable, "db.damaged", self.to_string())
                .next("ls /var/lib/airlock/backups");
        }
        fault(ErrorClass::Internal, "db.failed", "the database did not do as asked").because(self)
    }
}

/// The database.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    was_unclean: bool,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// Connections that are kept open for readers.
const READERS: usize = 4;

impl Store {
    /// Opens the database of a state directory: makes it, checks it after an unclean stop, backs
    /// it up and migrates it, as it needs. Blocks.
    pub fn open(state_dir: &Path, machines: &[Row]) -> Result<Self, StoreFault> {
        let path = state_dir.join("airlock.sqlite");
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_CREATE)?;
        let was_unclean = migrate::was_left_unclean(&writer)?;
        if was_unclean {
            tracing::warn!("the daemon did not stop cleanly: checking the database");
            check(&writer)?;
        }
        migrate::run(&mut writer, migrate::ALL, &state_dir.join("backups"))?;
        let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Row(machine, source, event, target) in machines {
            tx.prepare_cached("INSERT OR IGNORE INTO transition VALUES (?1, ?2, ?3, ?4)")?
                .execute((machine, source, event, target))?;
        }
        set_clean(&tx, false)?;
        tx.commit()?;
        let (writer, readers) = (Mutex::new(writer), Mutex::default());
        Ok(Self(Arc::new(Inner { path, was_unclean, writer, readers })))
    }

    /// Whether the daemon before this one died instead of stopping.
    pub fn was_unclean(&self) -> bool {
        self.0.was_unclean
    }

    /// Changes something, in one transaction: all of it or, after an error, nothing.
    pub async fn write<T, F>(&self, change: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreFault> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let work = move || {
            let mut writer = lock(&inner.writer);
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreFault::Interrupted))
    }

    /// Reads something, as it was at one moment.
    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreFault> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let work = move || {
            let kept = lock(&inner.readers).pop();
            let mut reader = match kept {
                Some(reader) => reader,
                None => connect(&inner.path, OpenFlags::empty())?,
            };
            let value = query(&reader.transaction()?)?;
            let mut readers = lock(&inner.readers);
            if readers.len() < READERS {
                readers.push(reader);
            }
            Ok(value)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreFault::Interrupted))
    }

    /// Notes that the daemon stops of its own will, so that the next start need not check.
    pub async fn close_cleanly(&self) -> Result<(), StoreFault> {
        self.write(|tx| set_clean(tx, true)).await
    }

    /// Looks through the whole database for damage.
    pub async fn check(&self) -> Result<(), StoreFault> {
        self.read(|tx| check(tx)).await
    }

    /// Bytes of the database.
    pub async fn bytes(&self) -> Result<u64, StoreFault> {
        self.read(|tx| {
            let bytes: i64 = tx.query_row(
                "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
                [],
                |row| row.get(0),
            )?;
            Ok(unsigned(bytes))
        })
        .await
    }
}

/// A row of a state machine's table: machine, source, event, target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row(pub &'static str, pub &'static str, pub &'static str, pub &'static str);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock rolled its transaction back: what is behind the lock is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a connection with everything that each of them needs.
fn connect(path: &Path, more: OpenFlags) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn check(connection: &Connection) -> Result<(), StoreFault> {
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

fn set_clean(connection: &Connection, clean: bool) -> Result<(), StoreFault> {
    connection.execute(
        "INSERT INTO meta VALUES ('clean', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        [if clean { "1" } else { "0" }],
    )?;
    Ok(())
}

/// The time, in Unix milliseconds.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// A number as SQLite holds it. None of ours comes near the bound.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that SQLite held; none of those columns is ever negative.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Reads a column whose text is of a type that checks itself.
pub(crate) fn parsed<T>(text: &str, column: &'static str) -> Result<T, StoreFault>
where
    T: std::str::FromStr,
{
    text.parse().map_err(|_invalid| StoreFault::Unreadable(column))
}

#[cfg(test)]
mod tests;
