//! The daemon's memory: one SQLite database, one writer, any number of readers.
//!
//! A run, its event log and the domain's rows change in one transaction each time, or not at all.
//! The schema itself holds what must never be untrue: what is active was unpacked, what is
//! unpacked was fetched, and a flow only moves as its machine's table says.

pub mod backup;
mod check;
mod connection;
pub mod epoch;
mod fault;
pub mod flow;
pub mod history;
pub mod image;
pub mod migrate;
pub mod reconcile;
pub mod restore;
pub mod run;
pub mod snapshot;
pub mod source;
pub mod unreadable;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use backup::{Backups, DAILY};
use check::Check;
use connection::connect;
use epoch::Epoch;

pub use check::Verdict;
pub use epoch::Ending;
pub use fault::StoreFault;

/// The database.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    backups: Backups,
    was_unclean: bool,
    check: Check,
    epoch: Epoch,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// How long a start waits for the check of a database that was not closed cleanly.
const PATIENCE: Duration = Duration::from_millis(500);

/// And how long where it has to be changed first.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_hours(24);

/// Connections that are kept open for readers.
const READERS: usize = 4;

impl Store {
    /// Opens the database of a state directory: makes it, checks it after an unclean stop, backs
    /// it up and migrates it, as it needs. Blocks; a check that takes long goes on beside.
    pub fn open(state_dir: &Path, machines: &[Row]) -> Result<Self, StoreFault> {
        Self::open_after(Some(PATIENCE), state_dir, machines)
    }

    fn open_after(
        patience: Option<Duration>,
        state_dir: &Path,
        machines: &[Row],
    ) -> Result<Self, StoreFault> {
        let path = file_of(state_dir);
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_CREATE)?;
        let was_unclean = migrate::was_left_unclean(&writer)?;
        let mut check = Check::unneeded();
        if was_unclean {
            tracing::warn!("the daemon did not stop cleanly: checking the database");
            check = Check::start(path.clone());
            // What may be damaged is not changed into another shape.
            let is_due = migrate::verified(&writer, migrate::ALL)? < migrate::ALL.len();
            let patience = if is_due { Some(AS_LONG_AS_IT_TAKES) } else { patience };
            let verdict = patience.map(|patience| check.wait(patience));
            if let Some(Verdict::Damaged(why)) = verdict {
                return Err(StoreFault::Damaged(why));
            }
        }
        let backups = Backups::of(state_dir);
        migrate::run(&mut writer, migrate::ALL, &backups)?;
        let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Row(machine, source, event, target) in machines {
            tx.prepare_cached("INSERT OR IGNORE INTO transition VALUES (?1, ?2, ?3, ?4)")?
                .execute((machine, source, event, target))?;
        }
        begin_records(&tx)?;
        let epoch = epoch::begin(&tx)?;
        set_clean(&tx, false)?;
        tx.commit()?;
        let (writer, readers) = (Mutex::new(writer), Mutex::default());
        Ok(Self(Arc::new(Inner { path, backups, was_unclean, check, epoch, writer, readers })))
    }

    /// Whether the daemon before this one died instead of stopping.
    pub fn was_unclean(&self) -> bool {
        self.0.was_unclean
    }

    /// What is known of the database's soundness.
    pub fn verdict(&self) -> Verdict {
        self.0.check.verdict()
    }

    /// This start of the daemon.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Changes something, in one transaction: all of it or, after an error, nothing. A daemon whose
    /// epoch is over changes nothing.
    pub async fn write<T, F>(&self, change: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreFault> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let work = move || {
            if let Verdict::Damaged(why) = inner.check.verdict() {
                return Err(StoreFault::Damaged(why));
            }
            let mut writer = lock(&inner.writer);
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            epoch::guard(&tx, inner.epoch.number)?;
            let value = change(&tx)?;
            crash_point!(Committing);
            tx.commit()?;
            crash_point!(Committed);
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

    /// Notes that the daemon stops of its own will, so that the next start need not check: unless
    /// this one's check has not passed.
    pub async fn close_cleanly(&self) -> Result<(), StoreFault> {
        let (epoch, verdict) = (self.0.epoch.number, self.verdict());
        if matches!(verdict, Verdict::Damaged(_)) {
            return Ok(());
        }
        self.write(move |tx| {
            epoch::end(tx, epoch)?;
            set_clean(tx, verdict == Verdict::Sound)
        })
        .await
    }

    /// Looks through the whole database for damage.
    pub async fn check(&self) -> Result<(), StoreFault> {
        self.read(|tx| connection::check(tx)).await
    }

    /// Makes the day's backup, and keeps the newest `keep` of them. Answers its file.
    pub async fn back_up(&self, keep: usize) -> Result<PathBuf, StoreFault> {
        let inner = Arc::clone(&self.0);
        let work = move || {
            // A connection of its own: it reads for long, and nobody is to wait for a reader.
            let from = connect(&inner.path, OpenFlags::empty())?;
            inner.backups.make(&from, DAILY, keep)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreFault::Interrupted))
    }

    /// The backups that are kept.
    pub fn backups(&self) -> &Backups {
        &self.0.backups
    }

    /// Whether blobs, volumes and snapshots may be there that this database does not know: it is
    /// new, or was restored. Then nothing is swept away until [`Store::settle`].
    pub async fn is_unsettled(&self) -> Result<bool, StoreFault> {
        self.read(|tx| Ok(meta(tx, RECORDS)?.as_deref() == Some(UNSETTLED))).await
    }

    /// Whether what is not on record may be taken for nobody's: the database is sound, and knows
    /// all that is there.
    pub async fn is_trusted(&self) -> Result<bool, StoreFault> {
        Ok(self.verdict() == Verdict::Sound && !self.is_unsettled().await?)
    }

    /// Notes that the database knows all that is there.
    pub async fn settle(&self) -> Result<(), StoreFault> {
        self.write(|tx| set_meta(tx, RECORDS, SETTLED)).await
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

/// Says in `meta` whether the database knows all that is there.
const RECORDS: &str = "records";
const SETTLED: &str = "settled";
const UNSETTLED: &str = "unsettled";
/// Put there by [`restore`], until the next start.
const RESTORED: &str = "restored";

/// Marks a database that is new or was restored as unsettled. One from before there was the mark
/// was never lost.
fn begin_records(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    let (records, is_new) = (meta(tx, RECORDS)?, meta(tx, "clean")?.is_none());
    match records.as_deref() {
        Some(RESTORED) => {
            restore::drop_intents(tx)?;
            set_meta(tx, RECORDS, UNSETTLED)
        }
        Some(_) => Ok(()),
        None => set_meta(tx, RECORDS, if is_new { UNSETTLED } else { SETTLED }),
    }
}

/// A row of a state machine's table: machine, source, event, target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row(pub &'static str, pub &'static str, pub &'static str, pub &'static str);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock rolled its transaction back: what is behind the lock is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_clean(connection: &Connection, clean: bool) -> Result<(), StoreFault> {
    set_meta(connection, "clean", if clean { "1" } else { "0" })
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), StoreFault> {
    connection.execute(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
        [key, value],
    )?;
    Ok(())
}

fn meta(connection: &Connection, key: &str) -> Result<Option<String>, StoreFault> {
    let value = "SELECT value FROM meta WHERE key = ?1";
    Ok(connection.query_row(value, [key], |row| row.get(0)).optional()?)
}

/// The database of a state directory.
pub fn file_of(state_dir: &Path) -> PathBuf {
    state_dir.join("airlock.sqlite")
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
