//! Brings the schema up to date, one numbered file at a time, after a backup.

use airlock_policy::digest::Digest;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::StoreFault;
use super::backup::{BEFORE_MIGRATION, Backups};

/// The schema could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationFault {
    /// A newer version of airlock has been here.
    #[error("the schema has version {found}, and this airlock knows none above {known}")]
    Newer {
        /// The version found.
        found: usize,
        /// The newest version known.
        known: usize,
    },
    /// A migration that was applied is not the one that this program holds.
    #[error("migration {0} is not the one that this database was made with")]
    Changed(usize),
    /// SQLite said no.
    #[error("failed to apply migration {number}")]
    Failed {
        /// Its number, from 1.
        number: usize,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// No backup, no migration.
    #[error("failed to back the database up before a migration")]
    Backup(#[source] Box<StoreFault>),
    /// The state of the schema could not be read.
    #[error("failed to read the schema's version")]
    Unreadable(#[from] rusqlite::Error),
}

/// Every migration, oldest first. One that was released never changes.
pub(super) const ALL: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_indices.sql"),
    include_str!("migrations/0003_unreadable_and_epochs.sql"),
    include_str!("migrations/0004_trees.sql"),
    include_str!("migrations/0005_timings.sql"),
    include_str!("migrations/0006_lists.sql"),
    include_str!("migrations/0007_history.sql"),
    include_str!("migrations/0008_schedule.sql"),
    include_str!("migrations/0009_flows_by_subject.sql"),
];

/// How many backups from before migrations are kept.
const KEPT: usize = 5;

/// Whether the database was in use and not closed.
pub(super) fn was_left_unclean(connection: &Connection) -> Result<bool, rusqlite::Error> {
    if !has_table(connection, "meta")? {
        return Ok(false);
    }
    connection
        .query_row("SELECT value FROM meta WHERE key = 'clean'", [], |row| row.get::<_, String>(0))
        .optional()
        .map(|clean| clean.is_some_and(|clean| clean != "1"))
}

fn has_table(connection: &Connection, name: &str) -> Result<bool, rusqlite::Error> {
    connection
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?
        .exists([name])
}

/// Applies what was not applied yet.
pub(super) fn run(
    connection: &mut Connection,
    all: &[&str],
    backups: &Backups,
) -> Result<(), MigrationFault> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (
            number     INTEGER NOT NULL PRIMARY KEY,
            digest     TEXT    NOT NULL,
            applied_at INTEGER NOT NULL
        ) STRICT",
    )?;
    let found = verified(connection, all)?;
    if found == all.len() {
        return Ok(());
    }
    if found > 0 {
        let start = format!("{BEFORE_MIGRATION}{found}-");
        let made = backups.make(connection, &start, KEPT);
        let path = made.map_err(|error| MigrationFault::Backup(Box::new(error)))?;
        tracing::info!(path = %path.display(), "backed the database up before a migration");
    }
    for (index, sql) in all.iter().enumerate().skip(found) {
        let number = index.saturating_add(1);
        apply(connection, number, sql)
            .map_err(|source| MigrationFault::Failed { number, source })?;
        tracing::info!(number, "applied a migration");
    }
    Ok(())
}

/// How many migrations were applied, each being the one that we know.
pub(super) fn verified(connection: &Connection, all: &[&str]) -> Result<usize, MigrationFault> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > all.len() {
        return Err(MigrationFault::Newer { found, known: all.len() });
    }
    for (index, sql) in all.iter().enumerate().take(found) {
        let number = index.saturating_add(1);
        let digest: Option<String> = connection
            .query_row("SELECT digest FROM migration WHERE number = ?1", [number_of(number)], |r| {
                r.get(0)
            })
            .optional()?;
        if digest != Some(Digest::of(sql.as_bytes()).to_string()) {
            return Err(MigrationFault::Changed(number));
        }
    }
    Ok(found)
}

fn apply(connection: &mut Connection, number: usize, sql: &str) -> Result<(), rusqlite::Error> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(sql)?;
    tx.execute(
        "INSERT INTO migration VALUES (?1, ?2, ?3)",
        (number_of(number), Digest::of(sql.as_bytes()).to_string(), super::now()),
    )?;
    tx.pragma_update(None, "user_version", number_of(number))?;
    tx.commit()
}

fn number_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_database_that_holds_something_is_backed_up_before_it_changes() {
        let dir = TempDir::new();
        let mut db = Connection::open(dir.path().join("x.sqlite")).unwrap();
        let first = "CREATE TABLE a (x); INSERT INTO a VALUES (7)";
        let second = "ALTER TABLE a ADD COLUMN y";
        let backups = Backups::of(dir.path());
        run(&mut db, &[first], &backups).unwrap();
        assert!(backups.list().is_empty(), "an empty database needs no backup");
        run(&mut db, &[first, second], &backups).unwrap();
        run(&mut db, &[first, second], &backups).unwrap();
        let copies = backups.list();
        assert_eq!((copies.len(), copies[0].version), (1, Some(1)));
        let copy = Connection::open(&copies[0].path).unwrap();
        let row: (i64, i64) = copy
            .query_row("SELECT x, (SELECT user_version FROM pragma_user_version) FROM a", [], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .unwrap();
        assert_eq!(row, (7, 1));
    }

    #[test]
    fn a_changed_migration_and_a_newer_schema_are_refused() {
        let dir = TempDir::new();
        let mut db = Connection::open(dir.path().join("x.sqlite")).unwrap();
        run(&mut db, &["CREATE TABLE a (x)"], &Backups::of(dir.path())).unwrap();
        let changed =
            run(&mut db, &["CREATE TABLE a (x, y)"], &Backups::of(dir.path())).unwrap_err();
        assert!(matches!(changed, MigrationFault::Changed(1)), "{changed}");
        let newer = run(&mut db, &[], &Backups::of(dir.path())).unwrap_err();
        assert!(matches!(newer, MigrationFault::Newer { found: 1, known: 0 }), "{newer}");
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let dir = TempDir::new();
        let mut db = Connection::open(dir.path().join("x.sqlite")).unwrap();
        let broken = "CREATE TABLE a (x); CREATE TABLE a (x)";
        let failed = run(&mut db, &[broken], &Backups::of(dir.path())).unwrap_err();
        assert!(matches!(failed, MigrationFault::Failed { number: 1, .. }), "{failed}");
        assert!(!has_table(&db, "a").unwrap());
        run(&mut db, &["CREATE TABLE a (x)"], &Backups::of(dir.path())).unwrap();
    }
}
