//! Backups: consistent copies, made while the daemon works, and kept in turn.
//!
//! A backup is one file in SQLite's format, without a journal beside it. It has its name only once
//! it is whole, looked through and flushed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{StoreFault, connection};

/// The start of the names of the backups that are made each day.
pub(super) const DAILY: &str = "daily-";
/// The start of the names of those that are made before a migration; the schema's version follows.
pub(super) const BEFORE_MIGRATION: &str = "before-migration-";
const SUFFIX: &str = ".sqlite";
const PART: &str = ".part";

/// Times in names: they sort as text.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// How often a copy that another program hinders is tried again, and how long is waited between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// The folder of the backups that airlock keeps by itself.
#[derive(Clone, Debug)]
pub struct Backups(PathBuf);

/// A backup that is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// When it was made, in seconds since 1970.
    pub made_at: i64,
    /// The version of its schema, where it was made before a migration.
    pub version: Option<usize>,
}

impl Backups {
    /// The backups of a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("backups"))
    }

    /// Those that are there, newest first.
    pub fn list(&self) -> Vec<Kept> {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut kept: Vec<_> = files.filter_map(|file| Kept::of(&file.path())).collect();
        kept.sort_by(|a, b| (b.made_at, &b.path).cmp(&(a.made_at, &a.path)));
        kept
    }

    /// The newest of those that are made each day.
    pub fn newest_daily(&self) -> Option<Kept> {
        self.list().into_iter().find(|kept| kept.version.is_none())
    }

    /// Copies a database into a new backup whose name starts so; of these keeps the newest `keep`.
    pub(super) fn make(
        &self,
        from: &Connection,
        start: &str,
        keep: usize,
    ) -> Result<PathBuf, StoreFault> {
        let made = DirBuilder::new().recursive(true).mode(0o750).create(&self.0);
        made.map_err(|source| StoreFault::File { path: self.0.clone(), source })?;
        let path = self.0.join(format!("{start}{}{SUFFIX}", Timestamp::now().strftime(TIME)));
        copy(from, &path)?;
        self.rotate(start, keep);
        Ok(path)
    }

    /// Removes the oldest of this kind, and what an ended daemon left half made.
    fn rotate(&self, start: &str, keep: usize) {
        let is_daily = start == DAILY;
        let alike = self.list().into_iter().filter(|kept| kept.version.is_none() == is_daily);
        let old = alike.skip(keep.max(1)).map(|kept| kept.path);
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|file| file.path());
        let parts = files.filter(|path| path.to_string_lossy().ends_with(PART));
        for path in old.chain(parts) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to remove an old backup");
            }
        }
    }
}

impl Kept {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let (version, time) = if let Some(time) = name.strip_prefix(DAILY) {
            (None, time)
        } else {
            let (version, time) = name.strip_prefix(BEFORE_MIGRATION)?.split_once('-')?;
            (Some(version.parse().ok()?), time)
        };
        let made_at = jiff::civil::DateTime::strptime(TIME, time).ok()?;
        let made_at = jiff::tz::TimeZone::UTC.to_timestamp(made_at).ok()?.as_second();
        Some(Self { path: path.to_owned(), made_at, version })
    }
}

/// Copies a database as it is at one moment into a new file. Others read and write meanwhile.
pub(super) fn copy(from: &Connection, to: &Path) -> Result<(), StoreFault> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| StoreFault::File { path, source }
    };
    let mut part = to.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&part)(error)),
        Ok(()) | Err(_) => {}
    }
    // SQLite would make it readable by all whom the umask lets.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&part);
    let made = made.map_err(file(&part))?;
    let copied = fill(from, &part).and_then(|()| {
        made.sync_all().map_err(file(&part))?;
        fs::rename(&part, to).map_err(file(to))?;
        sync_folder_of(to).map_err(file(to))
    });
    if copied.is_err() {
        // The error that is told is the first one.
        fs::remove_file(&part).unwrap_or_default();
    }
    copied
}

fn fill(from: &Connection, part: &Path) -> Result<(), StoreFault> {
    let mut target = Connection::open(part)?;
    {
        let backup = Backup::new(from, &mut target)?;
        let mut tries = 0_u32;
        // All in one step: one read transaction, so that no writer makes it start anew.
        while backup.step(-1)? != StepResult::Done {
            tries = tries.saturating_add(1);
            if tries > TRIES {
                return Err(StoreFault::Held);
            }
            std::thread::sleep(PAUSE);
        }
    }
    // One file alone, that can be read where nothing can be written beside it.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    connection::check(&target)
}

/// Makes a name in a folder as durable as the file that it names.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_newest_backups_of_each_kind_are_kept_and_half_made_ones_are_not() {
        let dir = TempDir::new();
        let backups = Backups::of(dir.path());
        fs::create_dir_all(&backups.0).unwrap();
        for name in [
            "daily-20260101T000000Z.sqlite",
            "daily-20260103T000000Z.sqlite",
            "daily-20260102T000000Z.sqlite",
            "before-migration-1-20250101T000000Z.sqlite",
            "daily-20260104T000000Z.sqlite.part",
            "mine.sqlite",
        ] {
            fs::write(backups.0.join(name), b"").unwrap();
        }
        assert_eq!(backups.newest_daily().unwrap().made_at, 1_767_398_400, "2026-01-03");
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE a (x); INSERT INTO a VALUES (7)").unwrap();
        let new = backups.make(&db, DAILY, 2).unwrap();
        let mut names: Vec<_> = fs::read_dir(&backups.0).unwrap().flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let names: Vec<_> = names.iter().map(fs::DirEntry::file_name).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"mine.sqlite".into()), "what is not ours is left alone");
        assert!(names.contains(&"daily-20260103T000000Z.sqlite".into()), "{names:?}");
        let copy = connection::look(&new).unwrap();
        assert_eq!(copy.query_row("SELECT x FROM a", [], |row| row.get(0)), Ok(7));
    }
}
