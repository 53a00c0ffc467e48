//! What the database may answer instead of doing as asked.

use std::path::{Path, PathBuf};

use airlock_protocol::control::{ErrorClass, Fault};

use super::backup::Backups;
use super::migrate::MigrationFault;
use super::unreadable::BadRecord;
use crate::fault::{Explain as _, fault};

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
    /// A connection does not have the settings that the store rests on.
    #[error(
        "SQLite refused a setting that the database is only safe with (WAL, FULL, foreign keys)"
    )]
    Settings,
    /// Another program hinders a copy.
    #[error("another program holds the database")]
    Held,
    /// The file could not be reached.
    #[error("failed to reach {path}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A record holds what this program does not write there.
    #[error("{} cannot be read: {}", .0.key, .0.why)]
    Record(Box<BadRecord>),
    /// A daemon that started later has this one's place.
    #[error("another daemon has taken over: this one may change nothing any more")]
    Superseded,
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

    /// Whether it is about what one record holds, and no other record.
    pub(crate) fn is_of_one_record(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::Utf8Error(..)
            ),
            Self::Unreadable(_) | Self::Json(_) => true,
            Self::Moved
            | Self::Migration(_)
            | Self::Damaged(_)
            | Self::Settings
            | Self::Held
            | Self::File { .. }
            | Self::Record(_)
            | Self::Superseded
            | Self::Interrupted => false,
        }
    }

    /// Whether a constraint of the schema forbids it, as it will each time.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
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
            | Self::Settings
            | Self::Held
            | Self::Record(_)
            | Self::Superseded
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
        if self.is_damage() {
            return fault(ErrorClass::Unavailable, "db.damaged", "the database is damaged")
                .because(self)
                .next("airlock db check");
        }
        if let Self::Record(bad) = self {
            return bad.fault();
        }
        if let Self::Migration(MigrationFault::Newer { .. }) = self {
            return fault(
                ErrorClass::Conflict,
                "db.newer",
                "a newer airlock has used the database",
            )
            .because(self);
        }
        fault(ErrorClass::Internal, "db.failed", "the database did not do as asked").because(self)
    }

    /// The same, met while opening the database of this state directory: with the backup that
    /// helps.
    pub fn fault_at_start(&self, state_dir: &Path) -> Fault {
        let mut told =
            self.fault().fact("database", super::file_of(state_dir).display().to_string());
        let newest_known = match self {
            Self::Migration(MigrationFault::Newer { known, .. }) => Some(*known),
            damaged if damaged.is_damage() => None,
            Self::Sqlite(_)
            | Self::Moved
            | Self::Unreadable(_)
            | Self::Json(_)
            | Self::Migration(_)
            | Self::Damaged(_)
            | Self::Settings
            | Self::Held
            | Self::File { .. }
            | Self::Record(_)
            | Self::Superseded
            | Self::Interrupted => return told,
        };
        // Of a newer schema, one from before it; of damage, any.
        let fits = |version: Option<usize>| {
            newest_known.is_none_or(|known| version.is_some_and(|found| found <= known))
        };
        let kept = Backups::of(state_dir).list();
        let backup = kept.into_iter().find(|kept| fits(kept.version));
        told.remedy.clear();
        if newest_known.is_some() {
            told = told.next("install the newer airlock again");
        }
        match backup {
            Some(kept) => told.next(format!("airlock db restore {}", kept.path.display())),
            None => told.next("airlock db set-aside"),
        }
        .next("systemctl start airlock && airlock doctor --fix")
    }

    fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => {
                use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Migration(MigrationFault::Unreadable(error)) => {
                use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Moved
            | Self::Unreadable(_)
            | Self::Json(_)
            | Self::Migration(_)
            | Self::Settings
            | Self::Held
            | Self::File { .. }
            | Self::Record(_)
            | Self::Superseded
            | Self::Interrupted => false,
        }
    }
}
